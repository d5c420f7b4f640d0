"""Small files in the layout of MERTools."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore.mertools import CLASSES

Corpus = Mapping[str, Mapping[str, Any]]


def names(count: int, start: int = 0) -> list[str]:
    return [f"sample_{number:08}" for number in range(start, start + count)]


def corpus(ids: Sequence[str], valence: float = -10) -> Corpus:
    """Return labels that go round through the classes."""
    return {id: {"emo": CLASSES[int(id[-8:]) % 6], "val": valence} for id in ids}


def write_labels(path: Path, **corpora: Any) -> Path:
    """Write an npz as MERTools does: each dict an array of one object, which numpy pickles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{f"{split}_corpus": given for split, given in corpora.items()})
    return path


def write_feature(folder: Path, values: Mapping[str, NDArray[Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def vectors(ids: Sequence[str], dim: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return a ``(dim,)`` float32 array a sample, near the centre of its class."""
    centres = np.random.default_rng(seed).standard_normal((6, dim))
    return {
        id: (centres[number % 6] + 0.01 * number).astype(np.float32)
        for number, id in enumerate(ids)
    }


def sequences(ids: Sequence[str], dim: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return a ``(frames, dim)`` float32 array a sample, 1 to 4 frames."""
    random = np.random.default_rng(seed)
    return {
        id: random.standard_normal((1 + number % 4, dim), np.float32)
        for number, id in enumerate(ids)
    }


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
