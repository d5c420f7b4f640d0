"""Which pictures are good enough to train on: measured once, and kept beside the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from mercore.components import IntArray
from mercore.errors import InputError, RunError
from mercore.inputs import frames_of
from mercore.media import FloatArray, Frames
from mercore.nn import resized
from mercore.tuning._data import Source
from mercore.tuning._options import PicturePretraining
from mercore.tuning.processes import world
from mercore.watch import Watch

COLUMNS = ("width", "height", "sharpness", "turn", "outside")
Detector = Callable[[Frames], Mapping[str, Any]]

_SIDE = 224  # what sharpness is measured at: it depends on it
_AT_ONCE = 256  # pictures between two reports


@dataclass(frozen=True)
class Sieve:
    """Measures the pictures of a source into a file, which a later run goes on with."""

    source: Source
    medium: str
    file: Path
    """``(pictures, 5)`` float32 of numpy, see COLUMNS; NaN where a picture cannot be read, and from
    ``turn`` on where it shows no face; a width of 0 where none was looked at yet."""
    threads: int
    watch: Watch
    detector: Detector | None = None
    """What a record says of the face in pictures; raises InputError where there is none."""

    def kept(self, tuning: PicturePretraining) -> tuple[IntArray, dict[str, int]]:
        """Return the rows of the pictures that pass, and how many each demand leaves out.

        A picture that fails several is counted for the first of them.
        """
        width, height, sharpness, turn, outside = self.measured().T
        shorter, longer = np.minimum(width, height), np.maximum(width, height)
        demands = {
            "unreadable": np.isnan(width),
            "too small": shorter < (tuning.smallest or 0),
            "too long": longer > (tuning.longest or np.inf) * shorter,
            "blurred": sharpness < (tuning.sharpness or 0),
            "without a face": np.isnan(turn),
            "turned": turn > (tuning.turned or np.inf),
            "incomplete": outside > (1 if tuning.outside is None else tuning.outside),
        }
        left, counts = np.ones(len(width), bool), {}
        for name, fails in demands.items():
            counts[name] = int((left & fails).sum())
            left &= ~fails
        return np.flatnonzero(left), counts

    def measured(self) -> FloatArray:
        """Return the table of the file, once all of it was measured."""
        table = self._table()
        rows = np.flatnonzero(table[:, 0] == 0)
        if len(rows) and world() > 1:
            raise RunError(
                "the pictures are not measured yet: run it once in one process, with --measure"
            )
        self.watch.start("pictures", len(table))
        self.watch.advance("pictures", len(table) - len(rows), 0)
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                table[part] = list(pool.map(self._measures, part.tolist()))
                self.watch.advance("pictures", len(part), int(np.isnan(table[part, 0]).sum()))
        return np.array(table)

    def _table(self) -> FloatArray:
        shape = (len(self.source), len(COLUMNS))
        try:
            table: FloatArray = open_memmap(self.file, "r+")
            if table.shape == shape:
                return table
        except (FileNotFoundError, ValueError):  # none, or cut short
            pass
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new: FloatArray = open_memmap(self.file, "w+", np.float32, shape)
        return new

    def _measures(self, row: int) -> tuple[float, ...]:
        try:
            pixels = frames_of(self.source[row], self.medium).pixels
        except InputError:
            return (np.nan,) * len(COLUMNS)
        height, width = pixels.shape[1:3]
        shown = pixels[len(pixels) // 2][None]
        return width, height, sharpness(resized(shown, _SIDE)[0]), *self._face(shown)

    def _face(self, shown: NDArray[np.uint8]) -> tuple[float, float]:
        """Return ``turn`` and ``outside`` of the face; 0 without a detector, NaN without a face."""
        if self.detector is None:
            return 0.0, 0.0
        try:
            record = self.detector(Frames(shown, np.zeros(1)))
        except InputError:
            return np.nan, np.nan
        return float(record.get("turn", 0)), float(record.get("outside", 0))


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of a picture ``(height, width, 3)``, in grey values.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy: a comparative study";
    the Laplacian of four neighbours, without the border.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())
