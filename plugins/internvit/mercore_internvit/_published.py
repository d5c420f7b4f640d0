"""A published checkpoint with an encoder's options: what is read of it, and how it is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from numpy.typing import NDArray
from torch import Tensor

from mercore.errors import CheckpointError, RegistryError
from mercore.nn import (
    Checkpoint,
    built,
    chosen,
    fill,
    normalised,
    refilled,
    resized,
    stretched,
)
from mercore_internvit import InternViT
from mercore_internvit._layouts import Layout, layout_of, located
from mercore_internvit._tower import CLIP_DIM, POSITIONS, Tower, resized_positions

SHARD: Final = "5GB"

Pixels = NDArray[np.uint8]


class Published:
    """The sizes of a checkpoint, and what the options come to in it; no weights are held.

    Raises CheckpointError for another model and RegistryError for options that do not fit it.
    """

    def __init__(self, options: InternViT) -> None:
        checkpoint = Checkpoint(located(options.checkpoint))
        self.options = options
        self.path = checkpoint.path
        self.layout = layout_of(checkpoint)
        self.depth = self.layout.sizes.num_hidden_layers
        self.layers = chosen(options.layers, self.depth, "internvit")
        if options.pool == "clip_proj":
            _check_projector(checkpoint, self.layers, self.depth)
        self.size = _picture_size(options, self.layout)

    @property
    def blocks(self) -> int:
        """How many blocks are needed."""
        return max(1, *self.layers)

    @property
    def tokens(self) -> int:
        """The tokens of a picture, with the class token."""
        return (self.size // self.layout.sizes.patch_size) ** 2 + 1

    @property
    def width(self) -> int:
        """The numbers of a row of the feature."""
        return CLIP_DIM if self.options.pool == "clip_proj" else self.layout.sizes.hidden_size

    @property
    def resized(self) -> bool:
        """Whether the position embeddings are made for another size than they were trained at."""
        return self.size != self.layout.sizes.image_size

    def tower(
        self,
        dtype: torch.dtype,
        device: str,
        *,
        first: int = 0,
        float32: str = "",
        weights: bool = True,
    ) -> Tower:
        """Return what is behind the hidden state `first`; all of it, embeddings too, behind 0.

        Weights whose names match `float32` get that type. Without `weights` they take no memory.
        """
        projector = self.options.pool == "clip_proj"
        tower = built(lambda: Tower(self.layout.sizes, self.blocks, projector))
        if first:
            tower.leave_out(first)
        checkpoint = Checkpoint(self.path)
        if weights:
            rules = self.layout.rules(self.blocks, projector, first)
            fill(tower, checkpoint, rules, dtype=dtype, device=device, float32=float32)
        else:
            tower.cast(dtype, but=float32)
        if self.resized and not first:
            side = self.size // self.layout.sizes.patch_size
            tower.set_positions(resized_positions(checkpoint[self.layout.positions], side))
        return tower

    def prepared(self, pixels: Pixels) -> Pixels:
        """Return the pictures in the size that the tower reads, ``(n, size, size, 3)``."""
        if self.options.resize == "square":
            return stretched(pixels, self.size)
        shorter = None if self.options.image_size else self.layout.preparation.size
        return resized(pixels, self.size, shorter=shorter)

    def normalised(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what the embeddings read of prepared pictures."""
        preparation = self.layout.preparation
        return normalised(pictures, dtype, preparation.image_mean, preparation.image_std)

    def states(self, tower: Tower, hidden: Tensor, first: int = 0) -> Tensor:
        """Return the layers chosen, reduced, ``(n, tokens, dim)`` float32, of the state `first`."""
        total = tower.states(hidden, self.layers, first)
        return total * (1.0 if self.options.reduce == "sum" else 1 / len(self.layers))

    def rows(self, tower: Tower, hidden: Tensor, first: int = 0) -> Tensor:
        """Return one row a picture, ``(n, width)``, of the hidden state `first`."""
        return tower.pooled(self.states(tower, hidden, first), self.options.pool)

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write tower and projector as they were published, with the trained `tensors` in them.

        Language models beside them are left out. Position embeddings stay as they were where they
        are resized. Raises CheckpointError for a checkpoint that is gone by now.
        """
        own = {name: t for name, t in tensors.items() if not (self.resized and name == POSITIONS)}
        rules = self.layout.rules(self.depth, projector=True)
        whole = refilled(Checkpoint(self.path), rules, own, unused=False)
        if self.layout.original:
            torch.save(whole, folder / "model.pth")
            return
        save_torch_state_dict(whole, folder, max_shard_size=SHARD)
        beside = self.path if self.path.is_dir() else self.path.parent
        for name in ("config.json", "preprocessor_config.json"):
            if (beside / name).is_file():
                shutil.copy(beside / name, folder / name)


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
