"""A view: which parts a collection has at one moment, and where each sample is in them.

::

    features/hubert@<fingerprint>/
      zarr.json                            group: the header
      seg/<key>/{c.0.0, zarr.json}         the rows of one commit; zarr.json is written last
      idx/<key>.json, idx/<key>.512.json   so many (64) commits' attributes once more: a cache
      base/<generation>-<random>/          data, offsets and ids of all that is compacted
      gen/<generation>.json                which base to read, and which segments are in it
      notes/<key>.json, marks/<key>.json   small logs
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

import numpy as np

from mercore.errors import DamagedError, StoreError
from mercore.store._base import Pointer, newest_generation, read_base, read_pointer
from mercore.store._files import Bytes, Files, Span
from mercore.store._parts import Array, Entries, Part, Pieces, RowType
from mercore.store._segments import (
    WIDE,
    indexed,
    read_segment,
    segment,
    segment_keys,
    writer_of,
)

ATTEMPTS = 20
"""How often a view is read anew because a compaction changed it meanwhile."""
NAMED = 5
"""How many samples a message names."""


@dataclass(frozen=True, eq=False)
class View:
    """The parts of a collection and, by position, all samples that were ever committed to them."""

    pointer: Pointer
    parts: Sequence[Part]
    rows: RowType | None
    newest: str
    """The latest commit key, or ``""``."""
    where: Mapping[str, int]
    """The position of each sample's latest commit, in the order of their first."""
    pieces: Pieces
    """By position."""

    @cached_property
    def entries(self) -> Entries:
        """What is known of each sample, in the order of their first commit."""
        return Entries(self.where, self.parts, self.pieces.part.tolist())

    @cached_property
    def failed(self) -> Mapping[str, str]:
        """Why there are no values, by sample whose latest commit has none."""
        notes = [
            (n, id, why) for n, part in enumerate(self.parts) for id, why in part.failed.items()
        ]
        return {id: why for n, id, why in notes if self.pieces.part[self.where[id]] == n}

    def lacking(self, ids: Sequence[str]) -> str:
        """Return which of the samples are missing or failed, in words, or ``""``."""
        if not self.failed and all(map(self.where.__contains__, ids)):
            return ""  # at once, as it is nearly always
        missing = [id for id in ids if id not in self.where]
        failed = [id for id in ids if id in self.failed]
        found = []
        if missing:
            found.append(f"{len(missing)} of {len(ids)} samples are missing: {named(missing)}")
        if failed:
            why = f"(the first: {self.failed[failed[0]]!r})"
            found.append(f"{len(failed)} of {len(ids)} samples failed: {named(failed)} {why}")
        return "; ".join(found)

    def locate(self, ids: Sequence[str]) -> Pieces:
        """Return where the rows of the samples are; a KeyError for one that is not known."""
        at = np.fromiter(map(self.where.__getitem__, ids), np.int64, len(ids))
        return Pieces(self.pieces.part[at], self.pieces.first[at], self.pieces.count[at])


def read_rows(files: Files, view: View, pieces: Pieces) -> Array:
    """Return the ``(rows, *shape)`` of the pieces, one after the other, in the stored dtype."""
    kind = view.rows or RowType("float32", (0,))
    total = int(pieces.count.sum())
    data = _buffer(total * kind.nbytes, files.named(""))
    fill(files, view, pieces, data)
    return kind.shaped(data, total)


def _buffer(size: int, where: str) -> Bytes:
    try:
        return np.empty(size, np.uint8)
    except (MemoryError, ValueError) as error:  # a ValueError where no machine has so much
        found = f"the rows take {size / 2**30:,.1f} GiB, which cannot be had"
        raise StoreError(f"{where}: {found}; read fewer samples at once") from error


def fill(files: Files, view: View, pieces: Pieces, buffer: Bytes) -> None:
    """Read the rows of the pieces into the buffer, opening each file once."""
    size = view.rows.nbytes if view.rows else 0
    if not size:
        return
    spans: dict[str, list[Span]] = defaultdict(list)
    at = 0
    for number, first, count in pieces.runs():
        part = view.parts[number]
        while count:
            file, row = divmod(first, part.rows_per_file)
            taken = min(count, part.rows_per_file - row)
            spans[part.file(file)].append((row * size, buffer[at : at + taken * size]))
            at, first, count = at + taken * size, first + taken, count - taken
    files.each(lambda key: files.read_into(key, spans[key]), spans)


def load_view(files: Files, known: Mapping[str, Part], old: View | None = None) -> View:
    """Return the present view: `old` itself while nothing has changed.

    Parts already in `known` (by folder) are not read again.
    """
    for _ in range(ATTEMPTS):
        generation = newest_generation(files)
        missing = None
        try:
            view = _read_view(files, generation, known, old)
        except FileNotFoundError as error:
            missing = error
        # Segments are deleted only after a newer pointer is there: no newer one, nothing missed.
        if newest_generation(files) != generation:
            continue
        if missing is None:
            return view
        found = "missing, but the store points to it"
        raise DamagedError(f"{missing.filename}: {found}; run `mer repair`") from missing
    raise StoreError(f"{files.named('gen')}: changed {ATTEMPTS} times while it was read; try again")


def _read_view(files: Files, generation: int, known: Mapping[str, Part], old: View | None) -> View:
    same = old is not None and old.pointer.generation == generation
    pointer = old.pointer if old and same else read_pointer(files, generation)
    parts = []
    if pointer.base is not None:
        folder = f"base/{pointer.base}/data"
        parts.append(known.get(folder) or read_base(files, pointer.base))
    parts += _segments(files, pointer, known)
    if old and same and parts == old.parts:  # parts are equal only to themselves
        return old
    return assembled(pointer, parts, files.named(""))


def _segments(files: Files, pointer: Pointer, known: Mapping[str, Part]) -> list[Part]:
    """Return the committed segments that are not in the base, in the order of their keys."""
    keys = [key for key in segment_keys(files) if key not in pointer.consumed]
    new = [key for key in keys if f"seg/{key}" not in known]
    found = indexed_parts(files, new)
    loose = [key for key in new if key not in found]
    read = files.each(partial(_committed, files), loose)
    found |= {key: part for key, part in zip(loose, read, strict=True) if part}
    parts = [known.get(f"seg/{key}") or found.get(key) for key in keys]
    return [part for part in parts if part]


def _committed(files: Files, key: str) -> Part | None:
    """Return a segment, None where it is not committed, or not yet."""
    try:
        return read_segment(files, key)
    except FileNotFoundError:
        return None


def indexed_parts(files: Files, keys: Sequence[str]) -> dict[str, Part]:
    """Return segments out of the idx objects, which a writer makes of its earlier commits."""
    names = defaultdict(list)
    for name in files.list("idx") if keys else []:
        names[name.endswith(WIDE), writer_of(name)].append(name)
    wanted = set()
    for key in keys:
        both = [names[wide, writer_of(key)] for wide in (True, False)]
        later = [each[bisect(each, key)] for each in both if each and each[-1] > key]
        wanted.update(later[:1])
    found: dict[str, Part] = {}
    for segments in files.each(partial(_index, files), sorted(wanted)):
        found.update(segments)
    return found


def _index(files: Files, name: str) -> Mapping[str, Part]:
    """Return the segments of an idx object, none where it is compacted meanwhile, or damaged."""
    at = f"idx/{name}"
    with suppress(FileNotFoundError):
        data = files.get(at)
        with suppress(StoreError):  # the segments say it all once more
            return {key: segment(key, about) for key, about in indexed(data, at).items()}
    return {}


def assembled(pointer: Pointer, parts: Sequence[Part], where: str) -> View:
    sizes = np.array([len(part.ids) for part in parts], np.int64)
    lengths = chain.from_iterable(part.lengths for part in parts)
    count = np.fromiter(lengths, np.int64, int(sizes.sum()))
    before = np.cumsum(count) - count
    # The first row of a sample is counted from the first sample of its part.
    start = np.concatenate([before, [0]])[np.cumsum(sizes) - sizes]
    part_of = np.repeat(np.arange(len(parts)), sizes)
    pieces = Pieces(part_of, before - start[part_of], count)
    positions, newest = _latest(parts)
    return View(pointer, parts, _row_type(parts, where), newest, positions, pieces)


def _latest(parts: Sequence[Part]) -> tuple[dict[str, int], str]:
    """Return the position of each sample's latest commit, and the latest key of all."""
    where: dict[str, int] = {}
    commits: list[str] = []
    newest = ""
    for part in parts:
        span = range(len(commits), len(commits) + len(part.ids))
        commits.extend(part.commits)
        if min(part.commits, default="") > newest:
            where.update(zip(part.ids, span, strict=True))
        else:  # a slow writer's segment that came after the compaction of later ones
            for id, at in zip(part.ids, span, strict=True):
                if id not in where or commits[at] > commits[where[id]]:
                    where[id] = at
        newest = max([newest, *part.commits])
    return where, newest


def _row_type(parts: Sequence[Part], where: str) -> RowType | None:
    """Return what all rows are; two writers that began with different rows are a StoreError."""
    first: Part | None = None
    for part in parts:
        if part.rows is None:
            continue
        first = first or part
        if part.rows != first.rows:
            found = f"{part.rows} in {part.folder!r} and {first.rows} in {first.folder!r}"
            cure = "delete the folder of the wrong ones"
            raise StoreError(f"{where}: found {found}, expected one kind of row; {cure}")
    return first.rows if first else None


def named(ids: Sequence[str]) -> str:
    """Return the first few ids, and how many more there are."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(repr(id) for id in ids[:NAMED]) + more
