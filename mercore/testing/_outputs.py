"""Results as numbers: how far apart two are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore.components import Noted
from mercore.media import Frames, Text, Waveform

Array = NDArray[np.float64]


def value_of(output: object) -> Any:
    """Return the result without its record."""
    return output.value if isinstance(output, Noted) else output


def stored_type(output: object) -> str:
    """Return the type of the result's numbers, such as ``float32``."""
    value = value_of(output)
    if isinstance(value, Waveform):
        value = value.samples
    return str(getattr(value, "dtype", type(value).__name__))


def numbers(output: object) -> Array:
    """Return samples, pixels from 0 to 1, code points or the matrix itself."""
    value = value_of(output)
    if isinstance(value, Waveform):
        return np.asarray(value.samples, np.float64)
    if isinstance(value, Frames):
        return np.asarray(value.pixels, np.float64) / 255
    if isinstance(value, Text):
        return np.array([ord(character) for character in value.content], np.float64)
    return np.asarray(value, np.float64)


def apart(one: object, other: object) -> float:
    """Return the largest difference as a share of the largest number, which counts as 1 at least.

    Infinite for different shapes. NaN in both counts as equal: that results are finite is a check
    of its own.
    """
    a, b = numbers(one), numbers(other)
    if a.shape != b.shape:
        return float("inf")
    scale = np.abs(a[np.isfinite(a)]).max(initial=1.0)
    return _largest_gap(a, b) / float(scale)


def start_apart(one: object, other: object) -> float:
    """Return the largest difference over the rows that both results have."""
    a, b = numbers(one), numbers(other)
    common = min(len(a), len(b)) if a.ndim and b.ndim else 0
    if a.shape[1:] != b.shape[1:]:
        return float("inf")
    return _largest_gap(a[:common], b[:common])


def _largest_gap(a: Array, b: Array) -> float:
    different = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    gaps = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=different))
    return float(np.where(np.isnan(gaps), np.inf, gaps).max(initial=0.0))


def identical(one: object, other: object) -> bool:
    """Return whether results and records are equal bit for bit."""
    a, b = numbers(one), numbers(other)
    records = [dict(o.record) if isinstance(o, Noted) else {} for o in (one, other)]
    return a.shape == b.shape and a.tobytes() == b.tobytes() and records[0] == records[1]
