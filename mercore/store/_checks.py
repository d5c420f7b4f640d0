"""The rows of a part against their checksums: which files differ, and whose rows are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mercore.errors import DamagedError
from mercore.store._files import Bytes, Files, crc32c
from mercore.store._parts import Part


@dataclass(frozen=True)
class DamagedRows:
    """A file of rows that is not what was written."""

    key: str
    found: str
    samples: Sequence[str]
    """Those whose rows are lost."""


def damaged_rows(files: Files, part: Part, index: int) -> DamagedRows | None:
    """Return what is damaged in the `index`-th file of a part; a missing one is FileNotFoundError.

    A file that cannot be reached, as in a network that is down, is a StoreError.
    """
    key = part.file(index)
    try:
        data = np.frombuffer(files.get(key), np.uint8)
    except DamagedError as error:  # the disk cannot read it
        found = str(error).removeprefix(f"{files.named(key)}: ")
        return DamagedRows(key, found, lost(part, index))
    found = _damage(part, index, data)
    return DamagedRows(key, found, lost(part, index, data)) if found else None


def _damage(part: Part, index: int, data: Bytes) -> str:
    """Return what is wrong with the bytes of a file of rows, or ``""``."""
    rows = _rows(part, index, data)
    size = _size(part, index)
    if len(rows) < size:
        return f"ends after {len(rows)} bytes, expected {size}"
    found, expected = crc32c(rows), part.checksums[index]
    if part.file_checksums and found == expected:
        found, expected = crc32c(data), part.file_checksums[index]
    return "" if found == expected else f"found crc32c {found:#010x}, expected {expected:#010x}"


def lost(part: Part, index: int, data: Bytes | None = None) -> list[str]:
    """Return the samples with rows in a file that are not as written in `data`, what is left of it.

    One whose rows go on in another file cannot be told, and counts as lost too.
    """
    rows = _rows(part, index, np.empty(0, np.uint8) if data is None else data)
    nbytes = part.rows.nbytes if part.rows else 0
    if len(rows) == _size(part, index) and crc32c(rows) == part.checksums[index]:
        return []
    first = index * part.rows_per_file
    ends = np.cumsum(part.lengths) - first
    starts = ends - part.lengths
    inside = (ends > np.maximum(starts, 0)) & (starts < part.rows_per_file)
    found = []
    for at in np.flatnonzero(inside).tolist():
        whole = starts[at] >= 0 and ends[at] <= part.rows_per_file and part.sample_checksums
        piece = rows[max(0, starts[at]) * nbytes : ends[at] * nbytes]
        if not whole or crc32c(piece) != whole[at]:
            found.append(part.ids[at])
    return found


def _rows(part: Part, index: int, data: Bytes) -> Bytes:
    """Return the rows among the bytes of a file; what follows them is not read."""
    return data[: _size(part, index)]


def _size(part: Part, index: int) -> int:
    """Return the bytes of rows in a file."""
    assert part.rows is not None  # no row type, no file
    rows = min(part.rows_per_file, sum(part.lengths) - index * part.rows_per_file)
    return rows * part.rows.nbytes
