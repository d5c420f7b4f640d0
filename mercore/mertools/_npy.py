"""The .npy format, from bytes: 15,000 small files at a time, and nothing that is pickled."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"


class Header(NamedTuple):
    """What the header of an .npy file says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    end: int
    """Where the values begin, or a pickle in their place."""


def header(data: bytes) -> Header:
    """Return the header of the content of a file; raises ValueError where it is no .npy."""
    if not data.startswith(_MAGIC) or len(data) < 12:
        raise ValueError("not an .npy file")
    size, start = (data[8:10], 10) if data[6] == 1 else (data[8:12], 12)
    try:
        return _parsed(data[: start + int.from_bytes(size, "little")])
    except Exception as error:  # numpy reads it as Python: a damaged one may raise anything
        raise ValueError(f"a damaged .npy header: {error}") from error


def array(data: bytes) -> NDArray[Any]:
    """Return the array in the content of a file; raises ValueError where it is none of numbers."""
    shape, fortran, dtype, end = header(data)
    if dtype.kind not in "biuf":
        raise ValueError(f"found {'pickled objects' if dtype.hasobject else dtype}, not numbers")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"found shape {shape}")
    count = math.prod(shape)
    if not count:
        raise ValueError("no values")
    found, expected = len(data) - end, count * dtype.itemsize
    if found < expected:
        raise ValueError(f"cut off: found {found} of {expected} bytes")
    values = np.frombuffer(data, dtype, count, end)
    return values.reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=256)  # nearly all files of a folder have one header
def _parsed(data: bytes) -> Header:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return Header(*np.lib.format.read_array_header_1_0(file), len(data))
    if version == (2, 0):
        return Header(*np.lib.format.read_array_header_2_0(file), len(data))
    raise ValueError(f".npy format {version}, expected (1, 0) or (2, 0)")
