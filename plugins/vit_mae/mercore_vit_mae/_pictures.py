"""Which frames a picture shows, and putting them into it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mercore.components import IntArray
from mercore.nn import resized

Pixels = NDArray[np.uint8]


def shown(frames: int, cells: int, most: int | None) -> IntArray:
    """Return the frames that each picture shows, ``(pictures, cells)``, in order of time.

    Of a clip with more frames than `most` pictures hold, evenly spread ones are taken; where the
    frames do not fill the last picture, evenly spread ones are repeated.
    """
    taken = frames if most is None else min(frames, most * cells)
    pictures = -(-taken // cells)
    return _spread(frames, taken)[_spread(taken, pictures * cells)].reshape(pictures, cells)


def _spread(length: int, count: int) -> IntArray:
    """Return the middles of `count` equal parts of `length`, as the core samples frames."""
    return (2 * np.arange(count) + 1) * length // (2 * count)


def picture(frames: Pixels, side: int, crop: float) -> Pixels:
    """Return the ``(side, side, 3)`` picture of the frames ``(n * n, height, width, 3)``."""
    if len(frames) == 1:
        single: Pixels = resized(frames, side, shorter=int(side / crop))[0]
        return single
    n = round(len(frames) ** 0.5)
    edges = [side * place // n for place in range(n + 1)]
    cells = resized(frames, -(-side // n))  # a pixel too large where n does not divide the side
    tiled = np.empty((side, side, 3), np.uint8)
    for place, cell in enumerate(cells):
        (top, bottom), (left, right) = (edges[k : k + 2] for k in divmod(place, n))
        tiled[top:bottom, left:right] = cell[: bottom - top, : right - left]
    return tiled
