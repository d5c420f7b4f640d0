"""MERTools' feature folders: one ``.npy`` a sample, in ``NAME-UTT`` or ``NAME-FRA``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mercore.errors import InputError, RunError, listed
from mercore.manifest import STREAMS
from mercore.media import FloatArray
from mercore.mertools._npy import array

POOLED, SEQUENCES = "UTT", "FRA"
_LEVEL = re.compile(rf"(.+)[-_]({POOLED}|{SEQUENCES})")
_AT_ONCE = 64  # files a thread reads in one go

T = TypeVar("T")


@dataclass(frozen=True)
class Folder:
    """One feature folder."""

    path: Path
    names: frozenset[str]
    """The samples that have a file."""
    sequences: bool
    """Whether it is ``-FRA``: ``(frames, dim)`` a file; else ``(dim,)`` or ``(1, dim)``."""

    def read(self, name: str) -> FloatArray:
        """Return ``(frames, dim)`` float32 of one sample, 1 frame where it is pooled.

        Raises InputError where the file holds no finite numbers; equal reasons have equal texts. An
        array of another rank comes as it is.
        """
        try:
            with open(f"{self.path}/{name}.npy", "rb", buffering=0) as file:
                return _matrix(array(file.readall()))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{self.path.name}: {reason}") from error


@dataclass(frozen=True)
class Source:
    """A feature of MERTools: its folders, which belong together by their name."""

    name: str
    """As a registry can have it: ``chinese_hubert_large``."""
    source: str
    """As MERTools has it, without the ending: ``chinese-hubert-large``."""
    folders: tuple[Folder, ...]
    """One, or that of the pooled vectors and that of the sequences."""

    @property
    def frames(self) -> bool:
        """Whether there are sequences."""
        return any(folder.sequences for folder in self.folders)

    @property
    def names(self) -> frozenset[str]:
        """The samples that have a file in any of the folders."""
        return frozenset().union(*(folder.names for folder in self.folders))


def _matrix(values: NDArray[Any]) -> FloatArray:
    """Return float32; raises ValueError where a value is not finite, or there is none."""
    with np.errstate(over="ignore"):  # what does not fit is not finite, which is said below
        matrix = np.asarray(values, np.float32, order="C")
    if not matrix.size:
        raise ValueError("no values")
    if not np.isfinite(matrix).all():
        raise ValueError("NaN or infinite values")
    return matrix[None] if matrix.ndim == 1 else matrix


def find(folders: Iterable[str | Path]) -> list[Source]:
    """Return the features in the folders, or in folders one level below them, by name.

    Raises RunError with all that are wrong: missing, empty, of another name than ``-UTT``,
    ``-FRA``, or two of one name.
    """
    found: dict[str, dict[str, Path]] = {}
    mistakes: list[str] = []
    for path in map(Path, folders):
        inner = _levels(path) if path.is_dir() else []
        if not inner:
            mistakes.append(_not_one(path))
        for folder in inner:
            stem, level = _parts(folder)
            other = found.setdefault(stem, {}).setdefault(level, folder)
            if other != folder:
                mistakes.append(f"{folder}: {other} is {stem}-{level} too; give one of them")
    sources = [_source(stem, levels, mistakes) for stem, levels in found.items()]
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            alike = ", ".join(source.source for source in sources if source.name == name)
            mistakes.append(f"{alike}: all would be feature {name!r}; rename a folder")
    if mistakes:
        raise RunError(f"wrong feature folders:{listed(mistakes)}")
    return sources


def each(
    function: Callable[[str], T], names: Sequence[str], threads: int
) -> Iterator[tuple[str, T | InputError]]:
    """Yield what the function makes of each name, in order, or the InputError it raises."""

    def some(part: Sequence[str]) -> list[T | InputError]:
        return [_tried(function, name) for name in part]

    parts = [names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="import")
    try:
        for part, found in zip(parts, pool.map(some, parts), strict=True):
            yield from zip(part, found, strict=True)
    finally:  # an interrupt does not wait for all files
        pool.shutdown(cancel_futures=True)


def _tried(function: Callable[[str], T], name: str) -> T | InputError:
    try:
        return function(name)
    except InputError as error:
        return error


def _levels(path: Path) -> list[Path]:
    """Return the folder itself, if its name says a level, or else those below it."""
    if _LEVEL.fullmatch(path.resolve().name):
        return [path]
    return sorted(
        below for below in path.iterdir() if _LEVEL.fullmatch(below.name) and below.is_dir()
    )


def _parts(folder: Path) -> tuple[str, str]:
    match = _LEVEL.fullmatch(folder.resolve().name)
    assert match  # _levels looked
    return match[1], match[2]


def _not_one(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such folder"
    if not path.is_dir():
        return f"{path}: is a file; give the folder of the .npy files"
    return f"{path}: expected NAME-{POOLED} or NAME-{SEQUENCES}, or a folder of such folders"


def _source(stem: str, levels: Mapping[str, Path], mistakes: list[str]) -> Source:
    folders = []
    for level, path in sorted(levels.items(), reverse=True):  # UTT first
        names = frozenset(f.name[:-4] for f in os.scandir(path) if _is_ours(f))
        if not names:
            mistakes.append(f"{path}: no .npy file in it; expected one a sample")
        folders.append(Folder(path, names, level == SEQUENCES))
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    if not name[:1].isalpha() or name in STREAMS:
        name = f"f_{name}"
    return Source(name, stem, tuple(folders))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".npy") and not entry.name.startswith(".")
