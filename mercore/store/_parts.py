"""What is in the store: rows of samples, kept in parts that never change.

A part is a segment (one commit) or the base (all that was compacted). Both are an array of rows
with, for each sample, how many of those rows are its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore.components import IntArray, Record
from mercore.errors import StoreError
from mercore.store._documents import Document, chunk_name
from mercore.store._files import Bytes

Array = NDArray[np.generic]
_DTYPE = re.compile(r"bool|(u?int|float|complex)\d{1,3}", re.ASCII)


@dataclass(frozen=True, eq=False)
class Row:
    """One sample to commit: its rows, or why there are none."""

    id: str
    values: Array | None
    """``(rows, *shape)``; None for a sample that failed."""
    source: str = ""
    """The identity of the files the sample was made from; opaque to the store."""
    record: Record = field(default_factory=dict)
    failed: str | None = None
    """Why there are no values."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the store knows of a sample beside its values."""

    length: int
    """Rows."""
    source: str
    record: Record
    failed: str | None


@dataclass(frozen=True)
class RowType:
    """What every row of a collection is."""

    dtype: str
    """As numpy names it, such as ``float32``; little-endian on disk."""
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: Array, where: str) -> RowType:
        """Return the row type of ``(rows, *shape)`` values."""
        if values.ndim == 0 or values.dtype.kind not in "biufc":
            found = f"{values.dtype} of shape {values.shape}"
            raise StoreError(f"{where}: found {found}, expected numbers of shape (rows, ...)")
        return cls(values.dtype.newbyteorder("=").name, values.shape[1:])

    def fits(self, values: Array) -> bool:
        """Return whether ``(rows, *shape)`` values are surely of this type: cheaper than `of`."""
        same = values.dtype == self.stored  # False for big-endian values, which may still be
        return same and values.ndim > 0 and values.shape[1:] == self.shape

    @cached_property
    def stored(self) -> np.dtype[np.generic]:
        """The data type on disk."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """The bytes of one row."""
        return self.stored.itemsize * math.prod(self.shape)

    def shaped(self, data: Bytes, rows: int) -> Array:
        """Return raw bytes as ``(rows, *shape)``."""
        return data.view(self.stored).reshape(rows, *self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} rows of shape {self.shape}"


@dataclass(frozen=True, eq=False)
class Part:
    """A segment or the base; the per-sample fields are in the same order."""

    folder: str
    """Of the array of rows."""
    ids: Sequence[str]
    commits: Sequence[str]
    """The key of the commit each sample came with; of two of one sample the later one counts."""
    lengths: Sequence[int]
    sources: Sequence[str]
    records: Mapping[str, Record]
    """By id; samples without one are left out."""
    failed: Mapping[str, str]
    rows: RowType | None
    """None where all samples failed."""
    rows_per_file: int
    checksums: Sequence[int]
    """The crc32c of the rows in each file."""
    sample_checksums: Sequence[int] | None = None
    """The crc32c of each sample's rows; None in stores of before it was noted."""
    file_checksums: Sequence[int] | None = None
    """The crc32c of each whole file of a base; None for a segment, whose file is its rows."""

    @property
    def row_files(self) -> int:
        """How many files of rows there are; rows of no bytes are in no file."""
        nbytes = self.rows.nbytes if self.rows else 0
        return -(-sum(self.lengths) // self.rows_per_file) if nbytes else 0

    def file(self, index: int) -> str:
        """Return the key of the `index`-th file of rows."""
        assert self.rows is not None  # no row type, no rows, no file
        return f"{self.folder}/{chunk_name(index, 1 + len(self.rows.shape))}"

    def entry(self, index: int) -> Entry:
        """Return what is known of the `index`-th sample."""
        id = self.ids[index]
        record, failed = self.records.get(id, {}), self.failed.get(id)
        return Entry(self.lengths[index], self.sources[index], record, failed)

    def attributes(self) -> Document:
        """Return what the store keeps of this part in the attributes of its zarr.json."""
        attributes = {
            "sources": self.sources,
            "records": self.records,
            "failed": self.failed,
            "dtype": self.rows.dtype if self.rows else None,
            "shape": self.rows.shape if self.rows else None,
            "crc32c": self.checksums,
        }
        if self.sample_checksums is not None:
            attributes["samples_crc32c"] = self.sample_checksums
        return attributes


class Entries(Mapping[str, Entry]):
    """What is known of each sample, put together when it is asked for."""

    def __init__(self, where: Mapping[str, int], parts: Sequence[Part], of: Sequence[int]) -> None:
        self._where = where
        self._parts = parts
        self._of = of
        self._starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()

    def __getitem__(self, id: str) -> Entry:
        at = self._where[id]
        number = self._of[at]
        return self._parts[number].entry(at - self._starts[number])

    def __contains__(self, id: object) -> bool:
        return id in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def keys(self) -> KeysView[str]:
        """Return the ids."""
        return self._where.keys()

    def commits(self) -> dict[str, str]:
        """Return the key of each sample's latest commit; see ``writer_of``."""
        keys = list(chain.from_iterable(part.commits for part in self._parts))
        return {id: keys[at] for id, at in self._where.items()}

    def noted(self) -> dict[str, Entry]:
        """Return those that failed or have a record; nothing is put together for the others."""
        return {
            id: self[id]
            for number, part in enumerate(self._parts)
            for id in {**part.failed, **part.records}
            if self._of[self._where[id]] == number
        }


@dataclass(frozen=True, eq=False)
class Pieces:
    """Rows to read, in the order they are wanted: `count` rows from `first` on, of each part."""

    part: IntArray
    first: IntArray
    count: IntArray

    def between(self, start: int, stop: int) -> Pieces:
        """Return the pieces of the rows `start` to `stop`, counted over all pieces."""
        end = np.cumsum(self.count)
        begin = end - self.count
        low, high = np.maximum(begin, start), np.minimum(end, stop)
        kept = high > low
        first = (self.first + low - begin)[kept]
        return Pieces(self.part[kept], first, (high - low)[kept])

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield part, first row and count of rows, neighbours joined, nothing empty."""
        kept = self.count > 0
        part, first, count = self.part[kept], self.first[kept], self.count[kept]
        if not len(part):
            return iter(())
        follows = (part[1:] == part[:-1]) & (first[1:] == first[:-1] + count[:-1])
        starts = np.flatnonzero(np.concatenate([[True], ~follows]))
        sizes = np.add.reduceat(count, starts)
        return zip(part[starts].tolist(), first[starts].tolist(), sizes.tolist(), strict=True)


def row_type(attributes: Mapping[str, Any]) -> RowType | None:
    """Return the row type that `Part.attributes` noted; raises ValueError for none."""
    dtype, shape = attributes["dtype"], attributes["shape"]
    if dtype is None:
        return None
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError(f"found the dtype {dtype!r}")
    if not isinstance(shape, list) or not all(
        type(extent) is int and extent >= 0 for extent in shape
    ):
        raise ValueError(f"found rows of shape {shape!r}")
    np.dtype(dtype)  # float17 is a TypeError
    return RowType(dtype, tuple(shape))


def check_part(part: Part) -> None:
    """Raise ValueError where what is noted of a part cannot be what was written."""
    count = len(part.ids)
    for name, kind in (("ids", str), ("sources", str), ("lengths", int)):
        values = getattr(part, name)
        if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
            raise ValueError(f"'{name}' is no list of {kind.__name__}")
        if len(values) != count:
            raise ValueError(f"{len(values)} {name} of {count} samples")
    if len(set(part.ids)) < count:
        raise ValueError("a sample is there twice")
    if min(part.lengths, default=0) < 0:
        raise ValueError("a sample has fewer than 0 rows")
    _check_notes(part)
    total = sum(part.lengths)
    if total and part.rows is None:
        raise ValueError(f"{total} rows of no dtype")
    if type(part.rows_per_file) is not int or part.rows_per_file < 1:
        raise ValueError(f"'rows_per_file' is {part.rows_per_file!r}")
    _check_sums("files of rows", part.checksums, part.row_files)
    if part.sample_checksums is not None:
        _check_sums("samples", part.sample_checksums, count)
    if part.file_checksums is not None:
        _check_sums("files", part.file_checksums, part.row_files)


def _check_sums(what: str, found: object, count: int) -> None:
    if not isinstance(found, list) or len(found) < count:
        raise ValueError(f"fewer checksums than the {count} {what}")


def _check_notes(part: Part) -> None:
    for name, kind in (("records", dict), ("failed", str)):
        noted = getattr(part, name)
        if not isinstance(noted, dict) or not set(map(type, noted.values())) <= {kind}:
            raise ValueError(f"'{name}' is no object of {kind.__name__} by id")
        if noted and not noted.keys() <= set(part.ids):
            raise ValueError(f"'{name}' names a sample that is not there")
    if part.failed and any(map(dict(zip(part.ids, part.lengths, strict=True)).get, part.failed)):
        raise ValueError("a sample that failed has rows")
