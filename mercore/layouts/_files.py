"""The media files of a folder, by the name of the clip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mercore.errors import ManifestError

Clips = dict[str, dict[str, str]]
"""The name of a clip to its files: column of the manifest to absolute path."""

_ENDINGS = {
    "video": ("mp4", "avi", "mkv", "mov", "webm", "flv", "m4v", "mpg", "mpeg", "wmv"),
    "audio": ("wav", "mp3", "flac", "m4a", "ogg", "opus", "aac", "wma"),
    "text": ("txt",),
}
_MEDIUM = {f".{ending}": medium for medium, endings in _ENDINGS.items() for ending in endings}


def medium_of(name: str) -> str:
    """Return the column of the manifest that the file belongs to, ``""`` for another file."""
    if name.startswith("."):  # hidden, such as what macOS puts beside a file
        return ""
    return _MEDIUM.get(os.path.splitext(name)[1].lower(), "")


def media_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the paths of the media files in a folder, by name, and what each is."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise ManifestError(f"cannot read {folder}: {error.strerror}") from error
    base = os.path.abspath(folder)
    for name in names:
        if medium := medium_of(name):
            yield os.path.join(base, name), medium


def clips_in(folders: Iterable[Path], media: Iterable[str] = ("video", "audio")) -> Clips:
    """Return the clips of the folders that are there; files with one stem are one clip."""
    found: Clips = {}
    wanted = set(media)
    for folder in filter(Path.is_dir, folders):
        for path, medium in media_files(folder):
            if medium in wanted:
                add(found, os.path.splitext(os.path.basename(path))[0], medium, path)
    return found


def add(clips: Clips, name: str, medium: str, path: str) -> None:
    """Add a file to a clip; raises ManifestError where the clip has another of the kind."""
    other = clips.setdefault(name, {}).setdefault(medium, path)
    if other != path:
        raise ManifestError(f"{path}: {other} is the {medium} of the same clip; keep one of them")


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folder and those below it, at most so deep, by name; no hidden ones."""
    yield folder
    if depth:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
        for path in inner:
            if not path.name.startswith("."):
                yield from folders_below(path, depth - 1)
