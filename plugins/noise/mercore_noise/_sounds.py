"""Pieces of audio drawn from the files of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mercore.decode import read_track
from mercore.errors import InputError, RunError
from mercore.media import FloatArray
from mercore_noise.folders import sound_files

RATE = 16_000
SILENT = 1e-4
"""-80 dB of full scale: below it there is dither and nothing else."""
_TRIES = 20  # pieces of files that do have sound


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

    def __init__(self, folder: str, option: str, *, channel: int | None = None) -> None:
        self._root = Path(folder).expanduser()
        self._names = sound_files(folder, option)
        self._channel = channel

    def piece(self, length: int, draws: np.random.Generator) -> Piece:
        """Return `length` samples of files that are drawn and joined until they are longer."""
        for _ in range(_TRIES):
            parts, total = [self.whole(draws)], 0
            while (total := sum(len(part.samples) for part in parts)) <= length:
                parts.append(self.whole(draws))
            start = int(draws.integers(total - length + 1))
            samples = np.concatenate([part.samples for part in parts])[start : start + length]
            if rms(samples) >= SILENT:
                files = tuple(part.files[0] for part in parts)
                return Piece(samples, files, round(start / RATE, 4))
        raise InputError(
            f"{self._root}: {_TRIES} pieces of {length / RATE:.2f} s in a row were silent; take "
            "files out that are silent for the most part"
        )

    def whole(self, draws: np.random.Generator) -> Piece:
        """Return a file that is drawn; where it is silent, the next one that is not."""
        first = int(draws.integers(len(self._names)))
        for name in self._names[first:] + self._names[:first]:
            samples = read_track(str(self._root / name), RATE, channel=self._channel).samples
            if rms(samples) >= SILENT:
                return Piece(samples, (name,))
        raise RunError(f"{self._root}: all {len(self._names)} audio files are silent")


def rms(samples: FloatArray) -> float:
    """Return the root of the mean square, 0 for no samples; a full-scale square wave has 1."""
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0
