"""The JSON documents of the store: Zarr v3 metadata, as zarr-python writes it.

zarr-python makes the document of a kind of array once; after that only its shape, its chunks and
its attributes change. Making each through zarr-python costs four times the commit itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import JsonValue

from mercore.errors import DamagedError, StoreError
from mercore.store._files import crc32c

Document = dict[str, Any]
SEAL = "document_crc32c"
"""The key whose value is the CRC-32C of the very file it is in, with zeros in the place of it."""
_BLANK = "00000000"
_SEALED = re.compile(rb'"document_crc32c":"([0-9a-f]{8})"')
_HEAD = 4096
"""The seal comes before all that may be long, or of someone else, such as ids."""


def encoded(document: Mapping[str, object]) -> bytes:
    """Return the document as UTF-8 JSON; what JSON cannot say is a StoreError."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"not storable as JSON: {error}") from error


def _sealed(document: Document) -> bytes:
    """Return a document as JSON, with its CRC-32C in the `SEAL`, which it has blank."""
    data = encoded(document)
    seal = _SEALED.search(data, 0, _HEAD)
    assert seal  # the first of its keys but those of Zarr
    return b"%b%08x%b" % (data[: seal.start(1)], crc32c(data), data[seal.end(1) :])


def decoded(data: bytes, where: str) -> Document:
    """Return the JSON object in the file called `where`; DamagedError for none, or another."""
    seal = _SEALED.search(data, 0, _HEAD)  # stores of before it was noted have none
    if seal and int(seal[1], 16) != _unsealed(data, *seal.span(1)):
        raise DamagedError(f"{where}: damaged: not what was written; run `mer repair`")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: not JSON: {error}; run `mer repair`") from error
    if not isinstance(document, dict):
        found = f"found {type(document).__name__}, expected a JSON object"
        raise DamagedError(f"{where}: {found}; run `mer repair`")
    return document


def _unsealed(data: bytes, start: int, end: int) -> int:
    return crc32c(data[:start], _BLANK.encode(), data[end:])


def noted(document: Document) -> Document:
    """Return what mercore noted in a zarr.json, nothing where that is of someone else."""
    attributes = document.get("attributes")
    found = attributes.get("mercore") if isinstance(attributes, dict) else None
    return found if isinstance(found, dict) else {}


def group(attributes: Mapping[str, JsonValue] | None = None) -> bytes:
    """Return the zarr.json of a group; ours are under the attribute ``mercore``."""
    document: Document = {"zarr_format": 3, "node_type": "group"}
    return _with_attributes(document, attributes)


def array(
    dtype: str,
    shape: Sequence[int],
    *,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    attributes: Mapping[str, object] | None = None,
) -> bytes:
    """Return the zarr.json of an uncompressed array, its chunks packed in shards if given."""
    document: Document = json.loads(_template(dtype, len(shape), shards is not None))
    document["shape"] = list(shape)
    grid = document["chunk_grid"]["configuration"]
    grid["chunk_shape"] = list(chunks if shards is None else shards)
    if shards is not None:
        document["codecs"][0]["configuration"]["chunk_shape"] = list(chunks)
    return _with_attributes(document, attributes)


def _with_attributes(document: Document, attributes: Mapping[str, object] | None) -> bytes:
    document["attributes"] = {"mercore": {SEAL: _BLANK, **(attributes or {})}}
    return _sealed(document)


def plain(content: Mapping[str, object]) -> bytes:
    """Return a document that is not Zarr's."""
    return _sealed({SEAL: _BLANK, **content})


def chunk_name(index: int, dimensions: int) -> str:
    """Return the file name of a chunk that is `index`-th along the first dimension."""
    return ".".join(["c", str(index), *["0"] * (dimensions - 1)])


@cache
def _template(dtype: str, dimensions: int, sharded: bool) -> str:
    """Return the zarr.json that zarr-python writes for such an array, of one element."""
    import zarr  # takes a third of a second, and reading needs none of it
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    one = (1,) * dimensions
    zarr.create_array(
        store=MemoryStore(kept),
        shape=one,
        chunks=one,
        shards=one if sharded else None,
        dtype=dtype,
        compressors=None,
        fill_value="" if dtype == "string" else 0,
        # Flat names halve the cost of a commit: no folder a dimension.
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    text: bytes = kept["zarr.json"].to_bytes()
    return text.decode()
