"""From pictures of any size to one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import torch

from mercore.components import Inputs
from mercore.errors import InputError
from mercore.inputs import frames_of
from mercore.media import FloatArray
from mercore.nn import device_of, dtype_of, moved, rows
from mercore_internvit import InternViT
from mercore_internvit._published import Pixels, Published

# Tokens a run: enough to fill the device, little enough for its memory.
TOKENS: Final = {"cpu": 4096, "cuda": 16384}


class InternViTModel:
    """The function ``InternViT.load`` returns; with `tokens` a row is all tokens of a picture."""

    def __init__(
        self, options: InternViT, device: str, dtype: str, *, tokens: bool = False
    ) -> None:
        self._device, self._dtype, self._tokens = device, dtype_of(dtype), tokens
        at_once = TOKENS[device_of(device).type]
        self._found = Published(options)
        self._tower = self._found.tower(self._dtype, device)
        self._chunk = max(1, at_once // self._found.tokens)

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

    def _chunks(self, clips: Sequence[Pixels]) -> Iterator[Pixels]:
        """Yield the pictures of all clips, prepared, in full chunks."""
        pictures = (
            self._found.prepared(clip[i : i + 1]) for clip in clips for i in range(len(clip))
        )
        while chunk := list(islice(pictures, self._chunk)):
            yield np.concatenate(chunk)

    def _pooled(self, pictures: Pixels) -> torch.Tensor:
        """Return one row a picture, on the device."""
        found, tower = self._found, self._tower
        hidden = tower.embedded(found.normalised(moved(pictures, self._device), self._dtype))
        if self._tokens:
            return found.states(tower, hidden).flatten(1)
        return found.rows(tower, hidden)
