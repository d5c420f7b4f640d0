"""Audio, as networks of speech want it."""

from __future__ import annotations

from typing import Final

import numpy as np

from mercore.media import FloatArray

EPS: Final = 1e-7
"""Added to the variance of audio, as where such networks were trained."""


def zscore(samples: FloatArray) -> FloatArray:
    """Return the audio with mean 0 and variance 1."""
    exact = samples.astype(np.float64)
    scaled: FloatArray = ((exact - exact.mean()) / np.sqrt(exact.var() + EPS)).astype(np.float32)
    return scaled
