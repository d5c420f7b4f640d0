"""From pictures of any size to one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mercore.components import Inputs
from mercore.errors import CheckpointError, InputError, RegistryError
from mercore.inputs import frames_of
from mercore.media import FloatArray
from mercore.nn import (
    Checkpoint,
    HiddenStates,
    built,
    chosen,
    device_of,
    dtype_of,
    fill,
    moved,
    normalised,
    resized,
    rows,
    stretched,
)
from mercore_internvit import InternViT
from mercore_internvit._layouts import Layout, layout_of, located
from mercore_internvit._tower import Tower, resized_positions

# Tokens a run: enough to fill the device, little enough for its memory.
TOKENS: Final = {"cpu": 4096, "cuda": 16384}

Pixels = NDArray[np.uint8]


class InternViTModel:
    """The function ``InternViT.load`` returns."""

    def __init__(self, options: InternViT, device: str, dtype: str) -> None:
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        at_once = TOKENS[device_of(device).type]
        checkpoint = Checkpoint(located(options.checkpoint))
        layout = layout_of(checkpoint)
        depth = layout.sizes.num_hidden_layers
        layers = chosen(options.layers, depth, "internvit")
        if options.pool == "clip_proj":
            _check_projector(checkpoint, layers, depth)
        self._preparation = layout.preparation
        self._size = _picture_size(options, layout)
        self._tower = self._filled(checkpoint, layout, max(1, *layers))
        self._states = HiddenStates(
            self._tower.vision.encoder.layer, layers, options.reduce, depth=depth
        )
        tokens = (self._size // layout.sizes.patch_size) ** 2 + 1
        self._chunk = max(1, at_once // tokens)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        clips = [frames_of(sample).pixels for sample in batch]
        # Nothing waits for the device before the last chunk is under way.
        pooled = torch.cat([self._pooled(pictures) for pictures in self._chunks(clips)])
        matrix = rows(pooled)
        if not np.isfinite(matrix).all():
            raise InputError(
                f"internvit gives values that are not finite in {str(self._dtype)[6:]}; use "
                "bfloat16 or float32"
            )
        return np.split(matrix, np.cumsum([len(clip) for clip in clips])[:-1])

    def _filled(self, checkpoint: Checkpoint, layout: Layout, blocks: int) -> Tower:
        """Return the first blocks of the tower with their weights."""
        sizes, projector = layout.sizes, self._options.pool == "clip_proj"
        tower = fill(
            built(lambda: Tower(sizes, blocks, projector)),
            checkpoint,
            layout.rules(blocks, projector),
            dtype=self._dtype,
            device=self._device,
        )
        if self._size != sizes.image_size:
            side = self._size // sizes.patch_size
            tower.set_positions(resized_positions(checkpoint[layout.positions], side))
        return tower

    def _chunks(self, clips: Sequence[Pixels]) -> Iterator[Pixels]:
        """Yield the pictures of all clips, prepared, in full chunks."""
        pictures = (self._prepared(clip[i : i + 1]) for clip in clips for i in range(len(clip)))
        while chunk := list(islice(pictures, self._chunk)):
            yield np.concatenate(chunk)

    def _prepared(self, pixels: Pixels) -> Pixels:
        if self._options.resize == "square":
            return stretched(pixels, self._size)
        shorter = None if self._options.image_size else self._preparation.size
        return resized(pixels, self._size, shorter=shorter)

    def _pooled(self, pictures: Pixels) -> torch.Tensor:
        """Return one row a picture, on the device."""
        mean, std = self._preparation.image_mean, self._preparation.image_std
        self._tower.vision(normalised(moved(pictures, self._device), self._dtype, mean, std))
        states = self._states.take()  # (pictures, tokens, dim)
        if self._options.pool == "cls":
            return states[:, 0]
        if self._options.pool == "mean":
            return states[:, 1:].mean(1)
        assert self._tower.clip_projector is not None
        embedded: torch.Tensor = self._tower.clip_projector(states.to(self._dtype))
        return embedded


def _check_projector(checkpoint: Checkpoint, layers: tuple[int, ...], depth: int) -> None:
    """Raise unless the checkpoint has a CLIP projector, and `layers` what it was trained on."""
    if not any(name.startswith("clip_projector.") for name in checkpoint):
        raise CheckpointError(
            f"{checkpoint.path}: holds no weights 'clip_projector.*', which `pool: clip_proj` "
            "needs; give OpenGVLab/InternVL-14B-224px, the only one that has them, or use "
            "`pool: cls` or `pool: mean`"
        )
    if layers != (depth,):
        raise RegistryError(
            f"internvit: option 'layers' names the hidden states {list(layers)}, but `pool: "
            f"clip_proj` takes the last one ({depth}) and no other; use `layers: [-1]`, or "
            "another `pool`"
        )


def _picture_size(options: InternViT, layout: Layout) -> int:
    patch, usual = layout.sizes.patch_size, layout.preparation.crop_size or layout.sizes.image_size
    size = options.image_size or usual
    if size % patch:
        raise RegistryError(
            f"internvit: option 'image_size' is {size}, expected a multiple of {patch}, such as "
            f"{max(1, round(size / patch)) * patch}"
        )
    return size
