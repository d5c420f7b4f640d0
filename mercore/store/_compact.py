"""Compaction: all segments and the base before become the next base, then they are deleted.

The order makes it safe to die anywhere: the new base is complete before the pointer to it is
written, and nothing is deleted before the pointer is durable. Of two compactions at once the
first to write the pointer counts, the other undoes its work. Pointers are never deleted, so that
a number is taken once and for all. A base is named after the generation it is meant for: once
that generation has a pointer, any other base of that name or before can never come to count.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

import numpy as np

from mercore.errors import DamagedError, StoreError, listed
from mercore.store._base import (
    Grid,
    Pointer,
    generations,
    newest_generation,
    write_base,
    write_pointer,
)
from mercore.store._checks import damaged_rows
from mercore.store._documents import chunk_name
from mercore.store._files import Files, crc32c
from mercore.store._parts import Part, Pieces, RowType
from mercore.store._segments import indexed, segment_keys
from mercore.store._view import View, fill

ABANDONED_SECONDS = 24 * 3600
"""How long a segment without its zarr.json is taken for one that is being written."""


def publish_base(files: Files, view: View, grid: Grid | None = None) -> bool:
    """Return whether all of the view is now in one new base; False if there was no need.

    The rows are cut into files by `grid`, or as is good for their number and size. A segment whose
    rows are not what was written is a StoreError; nothing is changed then.
    """
    live = {part.folder.removeprefix("seg/") for part in view.parts if _is_segment(part)}
    if not live:
        return False
    check(files, view)
    return publish(files, view, live, grid)


def publish(files: Files, view: View, live: Collection[str], grid: Grid | None = None) -> bool:
    """Return whether the samples of the view are now one new base, in the place of `live` segments.

    False if another compaction was first; nothing is changed then, nor by a StoreError.
    """
    generation = view.pointer.generation + 1
    name = f"{generation:06d}-{secrets.token_hex(4)}"
    # What an earlier compaction could not delete any more still must not be read.
    left = view.pointer.consumed.intersection(segment_keys(files))
    try:
        _write(files, view, name, grid)
    except StoreError:
        files.remove(f"base/{name}")  # a full disk should not be left with half a copy
        if newest_generation(files) < generation:
            raise
        return False  # the other compaction deleted what can no longer count
    if write_pointer(files, Pointer(generation, name, left.union(live))):
        return True
    files.remove(f"base/{name}")
    return False


def clean(files: Files, pointer: Pointer) -> None:
    """Delete what can never be read again: consumed segments, other bases, their idx objects."""
    listing = segment_keys(files)
    files.each(partial(_delete_dead, files, pointer), listing)
    for name in files.list("base"):
        meant, dash, _ = name.partition("-")
        past = dash and meant.isdecimal() and int(meant) <= pointer.generation
        if past and name != pointer.base:
            files.remove(f"base/{name}")
    live = set(listing) - pointer.consumed
    for name in files.list("idx"):
        with suppress(FileNotFoundError):  # another compaction's turn
            if live.isdisjoint(_indexed_keys(files, name)):
                files.delete(f"idx/{name}")


def _indexed_keys(files: Files, name: str) -> Collection[str]:
    data = files.get(f"idx/{name}")
    with suppress(StoreError):
        return indexed(data, name).keys()
    return ()  # damaged: of no use


def empty(files: Files) -> None:
    """Delete all of a collection but its zarr.json; whatever is left at any moment can be read."""
    files.remove("idx")  # it would go on to tell of segments
    files.each(partial(_delete_segment, files), segment_keys(files))
    # An older pointer leads nowhere, and a newer one to the base: delete the newest last.
    for generation in generations(files):
        files.delete(f"gen/{generation}.json")
    for folder in ("seg", "gen", "base", "notes", "marks", "busy"):
        files.remove(folder)


def _delete_dead(files: Files, pointer: Pointer, key: str) -> None:
    if key in pointer.consumed or _abandoned(files, key):
        _delete_segment(files, key)


def _delete_segment(files: Files, key: str) -> None:
    files.delete(f"seg/{key}/zarr.json")  # first: half a segment must not exist
    files.remove(f"seg/{key}")


def check(files: Files, view: View) -> None:
    """Compare all rows with their crc32c; all files that differ are one DamagedError."""
    found = files.each(lambda part: list(_damaged(files, part)), view.parts)
    damaged = list(chain.from_iterable(found))
    if damaged:
        cure = "run `mer repair`, which drops what is damaged"
        raise DamagedError(f"{len(damaged)} damaged files; {cure}:{listed(damaged)}")


def _damaged(files: Files, part: Part) -> Iterator[str]:
    """Yield a line for each file whose rows are not what was written."""
    for index in range(part.row_files):
        if found := damaged_rows(files, part, index):
            yield f"{files.named(found.key)}: {found.found}"


def _is_segment(part: Part) -> bool:
    return part.folder.startswith("seg/")


def _abandoned(files: Files, key: str) -> bool:
    """Return whether the writer of a segment died before it committed it."""
    with suppress(FileNotFoundError):
        uncommitted = "zarr.json" not in files.list(f"seg/{key}")
        return uncommitted and files.age(f"seg/{key}") > ABANDONED_SECONDS
    return False


def _write(files: Files, view: View, name: str, grid: Grid | None) -> None:
    """Write the base `name`, with all samples of the view in the order of its entries."""
    ids = list(view.where)
    pieces = view.locate(ids)
    total = int(pieces.count.sum())
    grid = grid or Grid.over(view.rows or RowType("uint8", ()), total)
    checksums: list[tuple[int, int]] = []
    if view.rows is not None and view.rows.nbytes:
        for number, start in enumerate(range(0, total, grid.rows_per_shard)):
            wanted = pieces.between(start, start + grid.rows_per_shard)
            key = f"base/{name}/data/{chunk_name(number, 1 + len(view.rows.shape))}"
            checksums.append(_write_shard(files, key, view, wanted, grid))
    write_base(files, name, _joined(view, ids, f"base/{name}/data", grid, checksums), grid)


def _write_shard(files: Files, key: str, view: View, pieces: Pieces, grid: Grid) -> tuple[int, int]:
    """Return the crc32c of the rows of one shard, and of the whole file, once it is written."""
    assert view.rows is not None  # there are rows
    rows = int(pieces.count.sum())
    data = np.zeros(grid.padded(rows) * view.rows.nbytes, np.uint8)
    used = data[: rows * view.rows.nbytes]
    fill(files, view, pieces, used)
    index = grid.index(view.rows, rows)
    files.put({key: [data, index]})
    return crc32c(used), crc32c(data, index)


def _joined(
    view: View, ids: Sequence[str], folder: str, grid: Grid, checksums: Sequence[tuple[int, int]]
) -> Part:
    """Return the part that the samples of the view become."""
    entries = [view.entries[id] for id in ids]
    keys = [key for part in view.parts for key in part.commits]
    noted = all(part.sample_checksums is not None for part in view.parts)
    sums = [each for part in view.parts for each in part.sample_checksums or ()]
    return Part(
        folder=folder,
        ids=ids,
        commits=[keys[at] for at in view.where.values()],
        lengths=[entry.length for entry in entries],
        sources=[entry.source for entry in entries],
        records={id: e.record for id, e in zip(ids, entries, strict=True) if e.record},
        failed={id: e.failed for id, e in zip(ids, entries, strict=True) if e.failed is not None},
        rows=view.rows,
        rows_per_file=grid.rows_per_shard,
        checksums=[rows for rows, _ in checksums],
        sample_checksums=[sums[at] for at in view.where.values()] if noted else None,
        file_checksums=[whole for _, whole in checksums],
    )
