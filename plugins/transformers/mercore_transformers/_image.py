"""Image encoders of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mercore.components import Inputs
from mercore.errors import RegistryError
from mercore.inputs import frames_of
from mercore.media import FloatArray, Frames
from mercore.nn import dtype_of, rows
from mercore_transformers._loading import loaded
from mercore_transformers._pictures import PREPARED, Pictures
from mercore_transformers._runs import budget_of
from mercore_transformers._sources import found
from mercore_transformers._states import reduced
from mercore_transformers.image import TransformersImage


class ImageEncoder:
    """The function ``TransformersImage.load`` returns."""

    def __init__(self, options: TransformersImage, device: str, dtype: str) -> None:
        source = found(options.checkpoint, "image", wanted=PREPARED)
        self._options, self._config = options, source.config
        self._prepared = Pictures(source.folder, device, dtype_of(dtype))
        self._model = loaded(source, device, dtype, pooler=options.pool == "pooler")
        self._at_once = budget_of(device, cpu=8, cuda=256)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        clips = [frames_of(sample) for sample in batch]
        parts = [[self._run(some) for some in _chunks(clip, self._at_once)] for clip in clips]
        return [rows(torch.cat(own)) for own in parts]

    def _run(self, frames: Frames) -> Tensor:
        """Return a row a frame, ``(frames, dim)`` float32, on the device."""
        given = self._prepared(frames)
        if self._options.pool == "pooler":
            return self._pooled(getattr(self._model(**given), "pooler_output", None))
        output = self._model(**given, output_hidden_states=True)
        tokens = reduced(output, self._options)  # (frames, tokens, dim)
        before = _before_patches(self._config, given["pixel_values"], tokens.shape[1])
        if self._options.pool == "mean":
            return tokens[:, before:].mean(1)
        if not before:
            raise RegistryError(
                f"{self._options.name}: option 'pool' is 'cls', but {self._config.model_type!r} "
                "has no class token; use mean or pooler"
            )
        return tokens[:, 0]

    def _pooled(self, pooled: Tensor | None) -> Tensor:
        if pooled is None:
            raise RegistryError(
                f"{self._options.name}: option 'pool' is 'pooler', but {self._config.model_type!r} "
                "has none; use mean or cls"
            )
        return pooled.float().flatten(1)


def _before_patches(config: Any, pixels: Tensor, tokens: int) -> int:
    """Return how many tokens stand before those of the patches: class token and registers."""
    patch = getattr(config, "patch_size", None)
    if patch is None:
        return 0
    high, wide = (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])
    patches = (pixels.shape[-2] // high) * (pixels.shape[-1] // wide)
    return max(0, tokens - patches)  # fewer tokens than patches: they were merged on the way


def _chunks(clip: Frames, size: int) -> Iterator[Frames]:
    for start in range(0, len(clip.pixels), size):
        part = slice(start, start + size)
        yield Frames(clip.pixels[part], clip.times[part])
