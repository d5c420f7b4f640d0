"""The base: all compacted rows as one sharded Zarr array of plain bytes, and the pointer to it.

A shard is its inner chunks one after the other, then 16 bytes of offset and length for each and
the crc32c of those. Without compression the rows of a shard are therefore contiguous: readers can
take them straight from the file, and zarr reads the same file as an array.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mercore.components import IntArray
from mercore.errors import DamagedError
from mercore.store._documents import (
    Document,
    array,
    chunk_name,
    decoded,
    group,
    noted,
    plain,
)
from mercore.store._files import Bytes, Files, crc32c
from mercore.store._parts import Part, RowType, check_part, row_type

CHUNK_BYTES = 256 * 1024
"""About what is good for zarr: sixteen times smaller reads 2.4 times slower."""
SHARD_BYTES = 128 * 1024 * 1024
"""At most this many bytes a file, which is also what compaction holds in memory."""
_LISTS = ("ids", "offsets")
ABSENT = 2**64 - 1
"""Offset and length of an inner chunk beyond the end of the array (Zarr sharding codec)."""


@dataclass(frozen=True)
class Pointer:
    """What gen/<n>.json says: the base to read, and the segments that are in it."""

    generation: int
    base: str | None
    consumed: frozenset[str]


@dataclass(frozen=True)
class Grid:
    """How the rows of a base are cut into chunks and shards."""

    rows_per_chunk: int
    chunks_per_shard: int

    @classmethod
    def over(cls, kind: RowType, rows: int) -> Grid:
        """Return the grid for so many rows."""
        size = max(1, kind.nbytes)
        per_chunk = max(1, min(CHUNK_BYTES // size, rows))
        most = max(1, SHARD_BYTES // (per_chunk * size))
        return cls(per_chunk, max(1, min(most, -(-rows // per_chunk))))

    @property
    def rows_per_shard(self) -> int:
        """Rows in one file."""
        return self.rows_per_chunk * self.chunks_per_shard

    def padded(self, rows: int) -> int:
        """Return how many rows a shard of `rows` rows takes: its last chunk is filled up."""
        return -(-rows // self.rows_per_chunk) * self.rows_per_chunk

    def index(self, kind: RowType, rows: int) -> bytes:
        """Return what ends a shard of `rows` rows: where each chunk is, and the crc32c of that."""
        size = self.rows_per_chunk * kind.nbytes
        entries = np.full((self.chunks_per_shard, 2), ABSENT, "<u8")
        present = self.padded(rows) // self.rows_per_chunk
        entries[:present, 0] = np.arange(present, dtype=np.uint64) * np.uint64(size)
        entries[:present, 1] = size
        data = entries.reshape(-1).view(np.uint8)
        return data.tobytes() + struct.pack("<I", crc32c(data))


def newest_generation(files: Files) -> int:
    """Return the number of the latest pointer, 0 where nothing was compacted yet."""
    return max(generations(files), default=0)


def generations(files: Files) -> list[int]:
    """Return the numbers of all pointers, in order; other files are let be."""
    stems = [name.removesuffix(".json") for name in files.list("gen") if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def read_pointer(files: Files, generation: int) -> Pointer:
    """Return the pointer of a generation."""
    if not generation:
        return Pointer(0, None, frozenset())
    key = f"gen/{generation}.json"
    document = decoded(files.get(key), files.named(key))
    base, consumed = document.get("base"), document.get("consumed")
    keys: list[Any] = consumed if isinstance(consumed, list) else [consumed]
    # A name, not a path: nothing is read outside the collection.
    named = base is None or (isinstance(base, str) and re.fullmatch(r"\w[\w-]*", base, re.ASCII))
    if not named or not set(map(type, keys)) <= {str}:
        found = f"damaged: found the base {base!r}, or no list of segments"
        raise DamagedError(f"{files.named(key)}: {found}; run `mer repair`")
    return Pointer(generation, base, frozenset(keys))


def write_pointer(files: Files, pointer: Pointer) -> bool:
    """Return whether the pointer is now the one of its generation: False if another was first."""
    document = {"base": pointer.base, "consumed": sorted(pointer.consumed)}
    return files.put_new(f"gen/{pointer.generation}.json", [plain(document)])


def write_base(files: Files, name: str, part: Part, grid: Grid) -> None:
    """Write all of a base but its rows; the zarr.json of its group is the last."""
    folder = f"base/{name}"
    offsets = np.cumsum([0, *part.lengths], dtype="<i8")
    if part.rows is not None:
        files.put({f"{folder}/data/zarr.json": [_data_document(part, part.rows, grid)]})
    ids = pack_strings(part.ids)
    _write_whole(files, f"{folder}/offsets", "int64", len(offsets), offsets.view(np.uint8))
    _write_whole(files, f"{folder}/ids", "string", len(part.ids), ids)
    keys = sorted(set(part.commits))
    number = {key: index for index, key in enumerate(keys)}
    commits = [number[key] for key in part.commits]
    attributes = {**part.attributes(), "keys": keys, "commits": commits}
    attributes["rows_per_file"] = part.rows_per_file
    attributes |= {"ids_crc32c": crc32c(ids), "offsets_crc32c": crc32c(offsets.view(np.uint8))}
    attributes["files_crc32c"] = part.file_checksums
    files.put({f"{folder}/zarr.json": [group(attributes)]})


def read_base(files: Files, name: str) -> Part:
    """Return the base of that name; FileNotFoundError where it is not complete, or is gone."""
    at = f"base/{name}/zarr.json"
    attributes = noted(decoded(files.get(at), files.named(at)))
    ids, offsets = (files.get(f"base/{name}/{what}/{chunk_name(0, 1)}") for what in _LISTS)
    try:
        _check_lists(attributes, ids, offsets)
        part = _part(name, attributes, unpack_strings(ids), np.frombuffer(offsets, "<i8"))
        check_part(part)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        found = f"damaged: {error}; run `mer repair`"
        raise DamagedError(f"{files.named(f'base/{name}')}: {found}") from error
    return part


def _part(name: str, attributes: Document, ids: Sequence[str], offsets: IntArray) -> Part:
    keys = attributes["keys"]
    if not all(isinstance(key, str) and re.match(r"\d{1,18}-", key, re.ASCII) for key in keys):
        raise ValueError("'keys' are not those of commits")
    part = Part(
        folder=f"base/{name}/data",
        ids=ids,
        commits=[keys[number] for number in attributes["commits"]],
        lengths=np.diff(offsets).tolist(),
        sources=attributes["sources"],
        records=attributes["records"],
        failed=attributes["failed"],
        rows=row_type(attributes),
        rows_per_file=attributes["rows_per_file"],
        checksums=attributes["crc32c"],
        sample_checksums=attributes.get("samples_crc32c"),
        file_checksums=attributes.get("files_crc32c"),
    )
    if len(part.commits) != len(ids) or offsets[0] != 0:
        raise ValueError(f"{len(part.commits)} commits of {len(ids)} samples")
    return part


def _check_lists(attributes: Document, ids: bytes, offsets: bytes) -> None:
    for what, data in zip(_LISTS, (ids, offsets), strict=True):
        expected = attributes.get(f"{what}_crc32c")  # stores of before it was noted have none
        if expected is not None and crc32c(data) != expected:
            raise ValueError(f"the {what} are not those that were written")


def pack_strings(strings: Sequence[str]) -> bytes:
    """Return strings as the Zarr codec vlen-utf8 has them: a count, then each with its length."""
    pieces = [struct.pack("<I", len(strings))]
    for string in strings:
        data = string.encode()
        pieces += [struct.pack("<I", len(data)), data]
    return b"".join(pieces)


def unpack_strings(data: bytes) -> list[str]:
    """Return the strings that `pack_strings` packed; raises ValueError for other bytes."""
    strings = []
    at = 4
    try:
        (count,) = struct.unpack_from("<I", data)
        for _ in range(count):
            (length,) = struct.unpack_from("<I", data, at)
            strings.append(data[at + 4 : at + 4 + length].decode())
            at += 4 + length
    except struct.error as error:
        raise ValueError(f"the list of ids ends early: {error}") from error
    if at != len(data):
        raise ValueError(f"the list of ids has {len(data)} bytes, expected {at}")
    return strings


def _data_document(part: Part, kind: RowType, grid: Grid) -> bytes:
    shape = (sum(part.lengths), *kind.shape)
    inner = tuple(max(1, extent) for extent in kind.shape)
    chunks, shards = (grid.rows_per_chunk, *inner), (grid.rows_per_shard, *inner)
    return array(kind.dtype, shape, chunks=chunks, shards=shards)


def _write_whole(files: Files, folder: str, dtype: str, count: int, data: bytes | Bytes) -> None:
    """Write an array of one dimension as one chunk."""
    document = array(dtype, [count], chunks=[max(1, count)])  # Zarr has no chunk without extent
    files.put({f"{folder}/{chunk_name(0, 1)}": [data], f"{folder}/zarr.json": [document]})
