"""Pieces of audio drawn from the files of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mercore.decode import read_track
from mercore.errors import InputError, RunError
from mercore.limits import NO_LIMITS
from mercore.media import FloatArray
from mercore_noise._spans import read_span, seconds_of
from mercore_noise.folders import sound_files

RATE = 16_000
SILENT = 1e-4
"""-80 dB of full scale: below it there is dither and nothing else."""
_TRIES = 20


@dataclass(frozen=True)
class Piece:
    """Audio drawn from a folder, and where it is from."""

    samples: FloatArray
    files: tuple[str, ...]
    """Names in the folder; several where one was too short."""
    offset: float = 0.0
    """Seconds from the start of the first file."""


class Sounds:
    """The audio files of a folder; none is kept in memory."""

    def __init__(self, folder: str, option: str) -> None:
        self._root = Path(folder).expanduser()
        self._names = sound_files(folder, option)

    def piece(self, length: int, draws: np.random.Generator) -> Piece:
        """Return `length` samples of a file that is drawn, or of several where it is too short."""
        for _ in range(_TRIES):
            drawn = int(draws.integers(len(self._names)))
            rest = int(seconds_of(self._path(self._names[drawn])) * RATE) - length
            how = self._joined if rest <= 0 else partial(self._span, rest)
            found = how(drawn, length, draws)
            if rms(found.samples) >= SILENT:
                return found
        self._loud(0)  # raises where there is nothing but silence
        raise InputError(
            f"{self._root}: {_TRIES} pieces of {length / RATE:.2f} s in a row were silent; take "
            "files out that are silent for the most part"
        )

    def whole(self, draws: np.random.Generator, channel: int | None = None) -> Piece:
        """Return a file that is drawn; where it is silent, the next one that is not."""
        return self._loud(int(draws.integers(len(self._names))), channel)

    def _span(self, rest: int, drawn: int, length: int, draws: np.random.Generator) -> Piece:
        start, name = int(draws.integers(rest + 1)), self._names[drawn]
        samples = read_span(self._path(name), RATE, start, length)
        return Piece(samples, (name,), round(start / RATE, 5))

    def _joined(self, drawn: int, length: int, draws: np.random.Generator) -> Piece:
        parts = [self._loud(drawn)]
        while (total := sum(len(part.samples) for part in parts)) <= length:
            parts.append(self.whole(draws))
        start = int(draws.integers(total - length + 1))
        samples = np.concatenate([part.samples for part in parts])[start : start + length]
        return Piece(samples, tuple(part.files[0] for part in parts), round(start / RATE, 5))

    def _loud(self, drawn: int, channel: int | None = None) -> Piece:
        for name in self._names[drawn:] + self._names[:drawn]:
            path = self._path(name)
            samples = read_track(path, RATE, channel=channel, limits=NO_LIMITS).samples
            if rms(samples) >= SILENT:
                return Piece(samples, (name,))
        raise RunError(f"{self._root}: all {len(self._names)} audio files are silent")

    def _path(self, name: str) -> str:
        return str(self._root / name)


def rms(samples: FloatArray) -> float:
    """Return the root of the mean square, 0 for no samples; a full-scale square wave has 1."""
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0
