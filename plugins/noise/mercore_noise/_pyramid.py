"""A Gaussian pyramid in whole numbers, one step down or up.

The filter is (1, 4, 6, 4, 1) / 16 along rows and columns, rounded once a step. Beyond a border the
picture is mirrored about its last pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mercore.components import Inputs, Noted
from mercore.inputs import frames_of
from mercore.media import Frames, Media
from mercore_noise._draws import draws_for
from mercore_noise.blur import Blur

Picture = NDArray[np.uint8]
Sums = NDArray[np.uint16]  # the largest is 255 * 16 * 16


class Blurrer:
    """The function ``Blur.load`` returns."""

    def __init__(self, options: Blur) -> None:
        self._options = options

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Inputs) -> Noted[Media]:
        frames = frames_of(sample, "video")
        factors = self._options.factors
        drawn = draws_for(sample, self._options.name, self._options.seed).integers(len(factors))
        factor = factors[int(drawn)]
        blurred = np.stack([blur(picture, factor) for picture in frames.pixels])
        return Noted(Frames(blurred, frames.times), {"blur": factor})


def blur(picture: Picture, factor: int) -> Picture:
    """Return the picture ``(height, width, 3)`` made `factor` times smaller and larger."""
    if factor == 1:
        return picture
    height, width = picture.shape[:2]
    return upper(blur(lower(picture), factor // 2), height, width)


def lower(picture: Picture) -> Picture:
    """Return the next level, ``((height + 1) // 2, (width + 1) // 2, 3)``."""
    sums = _halved(_halved(picture.astype(np.uint16)).swapaxes(0, 1)).swapaxes(0, 1)
    return ((sums + 128) >> 8).astype(np.uint8)


def upper(picture: Picture, height: int, width: int) -> Picture:
    """Return the level before, of the size given."""
    tall = _doubled(picture.astype(np.uint16), height)
    sums = _doubled(tall.swapaxes(0, 1), width).swapaxes(0, 1)
    return ((sums + 32) >> 6).astype(np.uint8)


def _halved(rows: Sums) -> Sums:
    """Return 16 times every second row of the filtered picture."""
    count = len(rows)
    mirrored = np.pad(rows, ((2, 2), (0, 0), (0, 0)), mode="reflect")
    a, b, c, d, e = (mirrored[shift : shift + count : 2] for shift in range(5))
    return a + e + 4 * (b + d) + 6 * c


def _doubled(rows: Sums, count: int) -> Sums:
    """Return 8 times `count` rows, of which every second one was a row of the smaller picture."""
    # In the larger picture, the first row is mirrored about itself, the last of these repeated.
    before = np.concatenate([rows[1:2] if len(rows) > 1 else rows, rows[:-1]])
    after = np.concatenate([rows[1:], rows[-1:]])
    doubled = np.empty((count, *rows.shape[1:]), np.uint16)
    doubled[::2] = before + 6 * rows + after
    doubled[1::2] = 4 * (rows + after)[: count // 2]
    return doubled
