"""Pictures to train on, read one at a time: files below folders, and members of tar shards.

Both are read by position, so that order, held-out pictures and resuming are those of any other
training: the webdataset library reads shards as streams, which a second epoch or a resumed one
orders anew. A tar file needs no more than a list of where its members begin.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from io import BytesIO
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mercore.components import Inputs, IntArray
from mercore.errors import InputError, RunError, few
from mercore.limits import DEFAULT, Limits
from mercore.media import Frames

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_KINDS = ("JPEG", "PNG", "WEBP")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")

# Names as arrays of bytes: millions of str objects would be copied into every process that reads.
Names = NDArray[np.bytes_]


def read_picture(file: str | BinaryIO, name: str, limits: Limits = DEFAULT) -> Frames:
    """Return a JPEG, PNG or WebP picture, upright, as one frame; raises InputError naming it."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file, formats=_KINDS) as image:
            limits.check_pixels(name, *image.size)
            upright = ImageOps.exif_transpose(image)
            full = upright.convert("RGBA") if upright.has_transparency_data else upright
            pixels = np.array(full.convert("RGB"))  # a copy: torch wants to be able to write
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: is no picture; expected {', '.join(_KINDS)}") from error
    except Exception as error:  # a broken file may raise anything
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: cannot be read as a picture: {reason}") from error
    return Frames(pixels[None], np.zeros(1))


@dataclass(frozen=True, eq=False)
class Images:
    """The picture files below folders, in order of their paths."""

    paths: Names
    medium: str
    """What the encoder calls its pictures."""
    limits: Limits = DEFAULT

    @classmethod
    def below(cls, folders: Sequence[str], medium: str, limits: Limits = DEFAULT) -> Images:
        """Return the pictures of the folders; raises RunError for a folder without any."""
        found: list[bytes] = []
        for folder in folders:
            own = sorted(_files(folder))
            if not own:
                kinds = ", ".join(_SUFFIXES)
                what = "holds no picture" if os.path.isdir(folder) else "is no folder"
                raise RunError(f"{folder}: {what}; expected files that end in {kinds} below it")
            found += own
        return cls(np.array(found), medium, limits)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Inputs:
        name = self.name(row)
        return {self.medium: read_picture(name, name, self.limits)}

    def name(self, row: int) -> str:
        """Return the path of the picture."""
        return os.fsdecode(self.paths[row])


def _files(folder: str) -> Iterator[bytes]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(_SUFFIXES):
                yield os.fsencode(os.path.join(place, name))


@dataclass(frozen=True, eq=False)
class Shards:
    """The pictures in tar files, as webdataset writes them; other members are passed over."""

    files: tuple[str, ...]
    members: Names
    places: IntArray
    """``(pictures, 3)``: which file, and the first byte and the number of bytes in it."""
    medium: str
    limits: Limits = DEFAULT

    @classmethod
    def of(cls, patterns: Sequence[str], medium: str, limits: Limits = DEFAULT) -> Shards:
        """Return the pictures of the shards, in their order.

        A pattern may have numbers, ``faces-{000..099}.tar``, and wildcards. Raises RunError for
        shards that are not there, are damaged or compressed, or hold no picture.
        """
        files = tuple(name for pattern in patterns for name in _expanded(pattern))
        if missing := [name for name in files if not os.path.isfile(name)]:
            raise RunError(f"shards that are not there: {few(missing)}")
        members: list[bytes] = []
        places: list[tuple[int, int, int]] = []
        for number, file in enumerate(files):
            for member in _members(file):
                members.append(os.fsencode(member.name))
                places.append((number, member.offset_data, member.size))
        if not members:
            raise RunError(f"no picture in {few(files)}; expected members that end in "
                           f"{', '.join(_SUFFIXES)}")  # fmt: skip
        return cls(files, np.array(members), np.array(places, np.int64), medium, limits)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, row: int) -> Inputs:
        number, start, size = self.places[row].tolist()
        with open(self.files[number], "rb") as file:
            file.seek(start)
            content = BytesIO(file.read(size))
        return {self.medium: read_picture(content, self.name(row), self.limits)}

    def name(self, row: int) -> str:
        """Return the shard and the name of the picture in it."""
        return f"{self.files[self.places[row, 0]]}:{os.fsdecode(self.members[row])}"


def _expanded(pattern: str) -> list[str]:
    """Return the files that the pattern stands for, whether they are there or not."""
    if found := _RANGE.search(pattern):
        first, last = found.groups()
        return [
            name
            for number in range(int(first), int(last) + 1)
            for name in _expanded(pattern.replace(found[0], f"{number:0{len(first)}}", 1))
        ]
    return sorted(glob(pattern)) or [pattern]


def _members(file: str) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if member.isreg() and member.name.lower().endswith(_SUFFIXES):
                    yield member
    except (tarfile.TarError, OSError) as error:
        raise RunError(
            f"{file}: cannot be read as a tar file: {error}; expected one that is whole and not "
            "compressed"
        ) from error


def parted(count: int, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Return the rows to train on, and those of the share that is held out: one or more of each."""
    order = np.random.default_rng(seed).permutation(count)
    held_out = min(count - 1, max(1, round(share * count)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])
