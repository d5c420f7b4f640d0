"""Media as typed values, and what components ask of them.

A component declares a `Spec` for each input (``Audio``, ``Video``, ``Words``) and gets a value
(``Waveform``, ``Frames``, ``Text``). Units: seconds, Hz; samples in [-1, 1]; pixels RGB uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono audio: float32 `samples`, nominally in [-1, 1], at a `rate` in Hz."""

    samples: FloatArray
    """``(samples,)`` float32, nominally in [-1, 1]."""
    rate: int
    """Samples a second (Hz)."""

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, eq=False)
class Frames:
    """Pictures in order of time: RGB `pixels`, ``(frames, height, width, 3)``, and `times` (s)."""

    pixels: NDArray[np.uint8]
    """``(frames, height, width, 3)`` RGB."""
    times: NDArray[np.float64]
    """``(frames,)`` seconds from the start of the clip."""


@dataclass(frozen=True)
class Text:
    """What is said or written: its `content`."""

    content: str


FULL_SCALE = 32_767
"""The 16-bit sample that stands for 1."""

REVISION = 1
"""Raise it when decoding, resampling or pooling gives other numbers than before."""

Media = Waveform | Frames | Text


@dataclass(frozen=True)
class Audio:
    """Asks for mono audio at a sampling `rate` in Hz."""

    rate: int
    """Hz."""


@dataclass(frozen=True)
class Video:
    """Asks for frames: all of them, `count` spread evenly, or `rate` a second."""

    count: int | None = None
    """How many frames, spread evenly over the clip; all frames of a shorter one."""
    rate: float | None = None
    """Frames a second (Hz)."""


@dataclass(frozen=True)
class Words:
    """Asks for text."""


Spec = Audio | Video | Words


def as_int16(samples: FloatArray) -> NDArray[np.int16]:
    """Return 16-bit samples; what is beyond [-1, 1] is clipped."""
    return np.round(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
