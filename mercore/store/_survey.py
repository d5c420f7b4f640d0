"""A survey of a collection: every byte is compared with its checksum, and what is damaged named.

It reads what readers would, not what a crash has left behind or a compaction will delete, and
changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain

from mercore.errors import DamagedError
from mercore.store._base import Pointer, read_base, read_pointer, unpack_strings
from mercore.store._checks import damaged_rows, lost
from mercore.store._documents import chunk_name, decoded, noted
from mercore.store._files import Files
from mercore.store._parts import Part
from mercore.store._segments import indexed, read_segment, segment_keys
from mercore.store._view import View, assembled, indexed_parts

HEADER = "zarr.json"
GROUPS = ("seg/zarr.json", "base/zarr.json")
"""Documents that say no more than that they are groups."""
_DAMAGE = (DamagedError, FileNotFoundError)

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Finding:
    """A file that is not what was written."""

    key: str
    found: str
    commits: Mapping[str, str] | None = field(default_factory=dict)
    """The damaged samples in it, and the commit of each; None where it cannot be told which."""
    commit: str = ""
    """The commit it is the document of: its samples are known for guesses only."""

    def lost(self, latest: Mapping[str, str]) -> list[str] | None:
        """Return the samples in it of which no newer commit is among the latest."""
        if self.commits is None:
            return None
        return [id for id, key in self.commits.items() if latest.get(id, "") <= key]


@dataclass(frozen=True)
class Survey:
    """What is right and what is damaged in a collection, as of one generation."""

    pointer: Pointer
    parts: Sequence[Part]
    """What can be read, though not all of its rows may be right."""
    segments: frozenset[str]
    """The keys of the committed segments, damaged ones too."""
    inside: Sequence[Finding]
    """Damage that goes when all is written anew into another base."""
    beside: Sequence[Finding]
    """Damaged files without samples, which are just deleted."""
    where: str
    """What messages call the collection."""

    @property
    def headless(self) -> bool:
        """Whether the header is damaged."""
        return any(each.key == HEADER for each in self.beside)

    @cached_property
    def view(self) -> View:
        """The samples that are not damaged."""
        gone = {id for each in self.inside for id in each.lost(self.latest) or ()}
        # An older failure may have been made good in a commit that cannot be read: try it again.
        unread = max((each.commit for each in self.inside), default="")
        gone |= {id for id in self._whole.failed if self.latest[id] < unread}
        where = {id: at for id, at in self._whole.where.items() if id not in gone}
        return replace(self._whole, where=where)

    @cached_property
    def latest(self) -> Mapping[str, str]:
        """The latest commit of each sample that is there, be it damaged."""
        return self._whole.entries.commits()

    @cached_property
    def _whole(self) -> View:
        return assembled(self.pointer, self.parts, self.where)


def survey(files: Files, generation: int, start: Tell, advance: Tell) -> Survey:
    """Return what is found; the files of rows are counted to `start`, and one by one to `advance`.

    A file that cannot be reached, as where a network is down, is a StoreError, and no damage.
    """
    beside = [*documents(files, [HEADER, *GROUPS]), *_notes(files), *_indices(files)]
    pointer, bases, inside = _pointer(files, generation)
    parts: list[Part] = []
    keys = [key for key in segment_keys(files) if key not in pointer.consumed]
    segments = files.each(partial(_segment, files), keys)
    for part, found in [*(_base(files, name) for name in bases), *filter(None, segments)]:
        parts += [part] if part else []
        inside += found
    start(sum(part.row_files for part in parts))
    rows = files.each(lambda part: list(_rows(files, part, advance)), parts)
    committed = (key for key, found in zip(keys, segments, strict=True) if found)
    inside += chain(*rows)
    return Survey(pointer, parts, frozenset(committed), inside, beside, files.named(""))


def documents(files: Files, keys: Sequence[str]) -> Iterator[Finding]:
    """Yield which JSON files are damaged or missing."""
    for key in keys:
        try:
            decoded(files.get(key), files.named(key))
        except _DAMAGE as error:
            yield Finding(key, _said(files, key, error))


def _notes(files: Files) -> Iterator[Finding]:
    return documents(files, [f"notes/{name}" for name in files.list("notes")])


def _indices(files: Files) -> Iterator[Finding]:
    for name in files.list("idx"):
        key = f"idx/{name}"
        try:
            indexed(files.get(key), files.named(key))
        except DamagedError as error:
            yield Finding(key, _said(files, key, error))
        except FileNotFoundError:  # compacted meanwhile
            pass


def _pointer(files: Files, generation: int) -> tuple[Pointer, Sequence[str], list[Finding]]:
    """Return the pointer and its base; where it is damaged, all bases that may be it."""
    key = f"gen/{generation}.json"
    try:
        pointer = read_pointer(files, generation)
        return pointer, [pointer.base] if pointer.base is not None else [], []
    except _DAMAGE as error:
        found = [Finding(key, _said(files, key, error))]
    names = [name for name in files.list("base") if name != "zarr.json"]
    complete = [name for name in names if "zarr.json" in files.list(f"base/{name}")]
    return Pointer(generation, None, frozenset()), complete, found


def _base(files: Files, name: str) -> tuple[Part | None, list[Finding]]:
    key = f"base/{name}"
    try:
        part = read_base(files, name)
    except _DAMAGE as error:
        ids = _ids_of_base(files, name)
        commits = None if ids is None else dict.fromkeys(ids, "")
        return None, [Finding(key, _said(files, key, error), commits)]
    arrays = ["ids", "offsets", *(["data"] if part.rows else [])]
    return part, list(documents(files, [f"{key}/{array}/zarr.json" for array in arrays]))


def _ids_of_base(files: Files, name: str) -> Sequence[str] | None:
    """Return the ids that a damaged base has, as far as they can be read."""
    with suppress(*_DAMAGE, ValueError):
        return unpack_strings(files.get(f"base/{name}/ids/{chunk_name(0, 1)}"))
    return None


def _segment(files: Files, key: str) -> tuple[Part | None, list[Finding]] | None:
    """Return a segment, None where it is not committed.

    Where its own document is damaged, an idx object may have it once more.
    """
    at = f"seg/{key}/zarr.json"
    try:
        return read_segment(files, key), []
    except FileNotFoundError:
        return None
    except DamagedError as error:
        found = _said(files, at, error)
    if part := indexed_parts(files, [key]).get(key):
        return part, [Finding(at, found)]
    ids = _ids_of_segment(files, at)
    return None, [Finding(at, found, None if ids is None else dict.fromkeys(ids, key), key)]


def _ids_of_segment(files: Files, at: str) -> Sequence[str] | None:
    """Return the ids that a damaged segment has, as far as they can be read."""
    with suppress(*_DAMAGE, ValueError, RecursionError, KeyError, TypeError):
        document = json.loads(files.get(at))
        return [id for id in noted(document)["ids"] if isinstance(id, str)]
    return None


def _rows(files: Files, part: Part, advance: Tell) -> Iterator[Finding]:
    commits = dict(zip(part.ids, part.commits, strict=True))
    for index in range(part.row_files):
        key = part.file(index)
        try:
            found = damaged_rows(files, part, index)
        except FileNotFoundError:
            yield Finding(key, "missing", {id: commits[id] for id in lost(part, index)})
        else:
            if found:
                yield Finding(key, found.found, {id: commits[id] for id in found.samples})
        advance(1)


def _said(files: Files, key: str, error: Exception) -> str:
    """Return what an error says beside the file and the cure."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    text = str(error).removeprefix(f"{files.named(key)}: ")
    return text.removesuffix("; run `mer repair`").removeprefix("damaged: ")
