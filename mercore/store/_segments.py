"""Segments: one folder a commit, which exists once its zarr.json does.

A segment is named by its commit key, ``<utc_ms>-<writer>-<seq>``. Writers share nothing, so any
number of them may write one collection.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from mercore.errors import DamagedError, StoreError
from mercore.store._documents import Document, array, chunk_name, decoded, encoded, noted
from mercore.store._files import Bytes, Content, Files, crc32c
from mercore.store._parts import Part, Row, RowType, check_part, row_type

INDEXED_COMMITS = 64
"""Commits a writer makes before it writes their attributes once more into one idx object."""
WIDE_COMMITS = 8 * INDEXED_COMMITS
"""Commits before it does so again, into one object that is read in place of eight."""
WIDE = f".{WIDE_COMMITS}.json"
"""How the name of such an object ends."""
_KEY = re.compile(r"\d{1,18}-", re.ASCII)
_NO_ROWS = RowType("uint8", ())  # all failed: an array of nothing
_FRAMED = re.compile(rb'\{"crc32c":(\d{1,10}),"segments":(.*)\}', re.DOTALL)
_CURE = "run `mer repair`"


class CommitKeys:
    """Makes keys that sort by commit, also when the clock is set back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._milliseconds = 0
        self._renew()

    def _renew(self) -> None:
        self.writer = secrets.token_hex(4)
        self._process = os.getpid()
        self._count = 0

    def next(self, after: str = "") -> str:
        """Return a key later than `after` and than all this writer made before."""
        with self._lock:
            if self._process != os.getpid():  # a fork would make its parent's keys again
                self._renew()
            seen = int(after.partition("-")[0]) + 1 if after else 0
            self._milliseconds = max(self._milliseconds, seen, time.time_ns() // 1_000_000)
            self._count += 1
            return f"{self._milliseconds:014d}-{self.writer}-{self._count:08d}"

    def __reduce__(self) -> tuple[type[CommitKeys], tuple[()]]:
        return CommitKeys, ()  # a copy in another process is another writer


def writer_of(key: str) -> str:
    """Return which writer made a commit key: 8 hexadecimal digits, drawn anew by each."""
    return key.partition("-")[2].partition("-")[0]


def seconds_since(key: str) -> float:
    """Return how old a commit key is, by the clock of this machine."""
    return time.time() - int(key.partition("-")[0]) / 1000


class SegmentWriter:
    """Commits rows to one collection as segments."""

    def __init__(self, files: Files, keys: CommitKeys) -> None:
        self._files = files
        self._keys = keys
        self._unindexed: dict[str, Document] = {}
        self._unindexed_wide: dict[str, Document] = {}

    def write(self, rows: Sequence[Row], expected: RowType | None, after: str) -> Part:
        """Return the part the rows have become, durably; its key is later than `after`."""
        kind = _checked(rows, expected, self._files.named(""))
        key = self._keys.next(after)
        data = _packed(rows, kind)
        attributes = _attributes(rows, kind, data)
        try:
            contents = _contents(f"seg/{key}", attributes, kind, data)
        except StoreError:
            _check_notes(rows, self._files.named(""))
            raise
        self._files.put(contents)
        self._index(key, attributes)
        return segment(key, attributes)

    def _index(self, key: str, attributes: Document) -> None:
        """Remember what a segment holds, and put the idx objects that are full with it."""
        self._unindexed[key] = self._unindexed_wide[key] = attributes
        if len(self._unindexed) >= INDEXED_COMMITS:
            full, self._unindexed = self._unindexed, {}
            self._put_index(".json", full)
        if len(self._unindexed_wide) >= WIDE_COMMITS:
            full, self._unindexed_wide = self._unindexed_wide, {}
            self._put_index(WIDE, full)

    def _put_index(self, ending: str, segments: Document) -> None:
        self._files.put({f"idx/{self._keys.next()}{ending}": [_index_document(segments)]})


def segment(key: str, attributes: Mapping[str, Any]) -> Part:
    """Return the segment that a zarr.json or an idx object describes; StoreError for none."""
    try:
        lengths: list[int] = attributes["lengths"]
        part = Part(
            folder=f"seg/{key}",
            ids=attributes["ids"],
            commits=[key] * len(lengths),
            lengths=lengths,
            sources=attributes["sources"],
            records=attributes["records"],
            failed=attributes["failed"],
            rows=row_type(attributes),
            rows_per_file=max(1, sum(lengths)),  # a TypeError where they are no numbers
            checksums=attributes["crc32c"],
            sample_checksums=attributes.get("samples_crc32c"),
        )
        check_part(part)
    except KeyError as error:
        found = f"{error} is not among its attributes"
        raise DamagedError(f"segment {key!r}: {found}; {_CURE}") from error
    except (TypeError, ValueError) as error:
        raise DamagedError(f"segment {key!r}: damaged: {error}; {_CURE}") from error
    if not _KEY.match(key):
        raise DamagedError(f"segment {key!r}: not a name that a commit has; {_CURE}")
    return part


def indexed(data: bytes, where: str) -> Document:
    """Return the attributes in an idx object by segment; StoreError where it is damaged."""
    framed = _FRAMED.fullmatch(data)  # those of before it had a checksum are not
    if framed and crc32c(framed[2]) != int(framed[1]):
        raise DamagedError(f"{where}: damaged: not what was written")
    segments = decoded(data, where).get("segments")
    if not isinstance(segments, dict):
        raise DamagedError(f"{where}: damaged: no 'segments'")
    return segments


def _index_document(segments: Document) -> bytes:
    body = encoded(segments)
    return b'{"crc32c":%d,"segments":%b}' % (crc32c(body), body)


def segment_keys(files: Files) -> list[str]:
    """Return the keys of all segments that were begun, in their order; not all are committed."""
    return [key for key in files.list("seg") if key != "zarr.json"]


def read_segment(files: Files, key: str) -> Part:
    """Return a segment; FileNotFoundError where it was not committed, or is compacted away."""
    at = f"seg/{key}/zarr.json"
    document = decoded(files.get(at), files.named(at))
    part = segment(key, noted(document))
    # What is said twice must be the same.
    kind = part.rows or _NO_ROWS
    found = [kind.dtype, [sum(part.lengths), *kind.shape]]
    if found != [document.get("data_type"), document.get("shape")]:
        raise DamagedError(f"{files.named(at)}: damaged: its array is not what was noted; {_CURE}")
    return part


def _checked(rows: Sequence[Row], expected: RowType | None, where: str) -> RowType | None:
    """Return the row type of all rows; the first that differs is a StoreError."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise StoreError(f"{where}: sample {row.id!r} is given twice, expected once a commit")
        seen.add(row.id)
        if (row.values is None) == (row.failed is None):
            found = "neither" if row.values is None else "both"
            expectation = "expected either values or a failure"
            raise StoreError(f"{where}: sample {row.id!r}: found {found}, {expectation}")
        if row.values is None or (expected and expected.fits(row.values)):
            continue
        kind = RowType.of(row.values, f"{where}: sample {row.id!r}")
        if expected and kind != expected:
            cure = "rows of one collection are alike; other numbers need another fingerprint"
            found = f"found {kind}, expected {expected}"
            raise StoreError(f"{where}: sample {row.id!r}: {found}; {cure}")
        expected = kind
    return expected if any(row.values is not None for row in rows) else None


def _check_notes(rows: Sequence[Row], where: str) -> None:
    """Raise a StoreError that names the first sample whose notes JSON cannot hold."""
    for row in rows:
        try:
            encoded({"notes": [row.id, row.source, row.failed, dict(row.record)]})
        except StoreError as error:
            raise StoreError(f"{where}: sample {row.id!r}: {error}") from error


def _packed(rows: Sequence[Row], kind: RowType | None) -> list[Bytes]:
    """Return the bytes of each sample's rows, little-endian and in C order; nothing is joined."""
    nothing = np.empty(0, np.uint8)
    return [
        nothing if kind is None or row.values is None or not row.values.size
        else np.ascontiguousarray(row.values, kind.stored).reshape(-1).view(np.uint8)
        for row in rows
    ]  # fmt: skip


def _attributes(rows: Sequence[Row], kind: RowType | None, data: Sequence[Bytes]) -> Document:
    """Return what is noted of the rows; it is all a reader needs beside the rows themselves."""
    return {
        "ids": [row.id for row in rows],
        "lengths": [0 if row.values is None else len(row.values) for row in rows],
        "sources": [row.source for row in rows],
        "records": {row.id: dict(row.record) for row in rows if row.record},
        "failed": {row.id: row.failed for row in rows if row.failed is not None},
        "dtype": kind.dtype if kind else None,
        "shape": list(kind.shape) if kind else None,
        "crc32c": [crc32c(*data)],
        "samples_crc32c": [crc32c(each) for each in data],
    }


def _contents(
    folder: str, attributes: Document, kind: RowType | None, data: Sequence[Bytes]
) -> dict[str, Content]:
    """Return the files of a segment; its zarr.json is the last."""
    kind = kind or _NO_ROWS
    shape = (sum(attributes["lengths"]), *kind.shape)
    chunks = [max(1, extent) for extent in shape]  # Zarr has no chunk without extent
    document = array(kind.dtype, shape, chunks=chunks, attributes=attributes)
    full = [each for each in data if each.nbytes]
    if not full:
        return {f"{folder}/zarr.json": [document]}
    return {f"{folder}/{chunk_name(0, len(shape))}": full, f"{folder}/zarr.json": [document]}
