"""Audio before the network reads it: cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mercore.media import FloatArray


@dataclass(frozen=True)
class Convolutions:
    """How many frames some convolutions make of audio, and of which samples each."""

    kernels: Sequence[int]
    strides: Sequence[int]

    @property
    def stride(self) -> int:
        """Samples from one frame to the next: 320 in all published ones."""
        return prod(self.strides)

    @property
    def field(self) -> int:
        """Samples that one frame sees, so the fewest that give one: 400."""
        seen = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            seen = (seen - 1) * stride + kernel
        return seen

    def frames(self, samples: int) -> int:
        """Return how many frames come of so many samples."""
        return (samples - self.field) // self.stride + 1

    def pieces(self, audio: FloatArray, length: int) -> list[FloatArray]:
        """Return pieces of about `length` samples that give the frames of the whole, each once."""
        count = max(1, length // self.stride)  # frames a piece
        step, overlap = count * self.stride, self.field - self.stride
        starts = range(0, self.frames(len(audio)) * self.stride, step)
        return [audio[start : start + step + overlap] for start in starts]


def padded(audio: FloatArray, length: int) -> list[FloatArray]:
    """Return pieces of `length` samples, the last one filled up with zeros."""
    whole = np.pad(audio, (0, -len(audio) % length))
    return list(whole.reshape(-1, length))
