"""Long audio in windows that overlap, with each voice going on in the recording it began in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.media import FloatArray

Separate = Callable[[FloatArray], FloatArray]
"""From audio ``(samples,)`` to two recordings ``(2, samples)``, in any order."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Two recordings of the whole audio."""

    sources: FloatArray
    """``(2, samples)``"""
    windows: int
    """How many pieces they are joined from."""
    sureness: float
    """In [0, 1]: how much better the order taken fits than the other one, at the worst seam."""


def in_windows(separate: Separate, audio: FloatArray, window: int, overlap: int) -> Joined:
    """Return what `separate` makes of the audio, whole or in windows of `window` samples.

    Two windows share `overlap` samples or more. There the order of the second one's recordings is
    the one whose distance from the first one's is less, and the two are faded into each other.
    """
    starts = _starts(len(audio), window, overlap)
    whole, done, sureness = np.zeros((2, len(audio)), np.float32), 0, 1.0
    for start in starts:
        own = separate(audio[start : start + window])
        shared = done - start if start else 0
        if shared:
            before = whole[:, start:done]
            own, sure = _aligned(own, before)
            sureness = min(sureness, sure)
            fade = ((np.arange(shared) + 0.5) / shared).astype(np.float32)
            own[:, :shared] = before + fade * (own[:, :shared] - before)
        done = start + own.shape[1]
        whole[:, start:done] = own
    return Joined(whole, len(starts), sureness)


def _starts(length: int, window: int, overlap: int) -> list[int]:
    """Return where windows begin, evenly, so that each of them is whole."""
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    spread: NDArray[np.float64] = np.linspace(0, length - window, count)
    return [int(start) for start in spread]


def _aligned(own: FloatArray, before: FloatArray) -> tuple[FloatArray, float]:
    """Return the recordings in the order of those before, and how sure that is, in [0, 1].

    What counts is energy: where one voice is silent its recordings hold traces of the other one,
    and a correlation of them, each brought to the same level, would say nothing.
    """
    shared = own[:, : before.shape[1]].astype(np.float64)
    alike = before @ shared.T  # (before, own)
    kept, swapped = np.trace(alike), np.trace(alike[::-1])
    energy = (np.square(before, dtype=np.float64).sum() + np.square(shared).sum()) / 2
    sure = min(1.0, abs(kept - swapped) / energy) if energy else 0.0
    return own[::-1].copy() if swapped > kept else own.copy(), float(sure)
