"""Folders of audio files: what is in them, and what identifies it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mercore.errors import RegistryError

SUFFIXES: Final = frozenset(
    (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".wav")
)
_END = 4096  # bytes read at either end of a file: noise corpora have tens of thousands of files


def sound_files(folder: str, option: str) -> list[str]:
    """Return the names of the audio files below the folder, sorted; hidden ones do not count.

    Raises RegistryError, naming the option, where there is no such folder or no such file.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        found = "a file" if root.is_file() else "nothing"
        raise RegistryError(
            f"with.{option}: {found} at {folder!r}; expected a folder of audio files"
        )
    shown = list(_below(root, ""))
    if not shown:
        expected = ", ".join(sorted(SUFFIXES))
        raise RegistryError(f"with.{option}: no audio file below {folder!r}; expected {expected}")
    return sorted(shown)


def identity_of(folder: str, option: str) -> str:
    """Return a hash of the names, sizes and ends of the audio files below the folder.

    Blind to a change in the middle of a file that keeps its size. Raises as ``sound_files`` does.
    """
    root = Path(os.path.expanduser(folder))
    digest = hashlib.sha256()
    for name in sound_files(folder, option):
        with open(root / name, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{name}\0{size}\0".encode() + file.read(_END))
            file.seek(max(0, size - _END))
            digest.update(file.read(_END))
    return f"sha256:{digest.hexdigest()}"


def _below(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(folder / entry.name, f"{prefix}{entry.name}/")
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                yield prefix + entry.name
