"""The JSON documents of the store: Zarr v3 metadata, as zarr-python writes it.

zarr-python makes the document of a kind of array once; after that only its shape, its chunks and
its attributes change. Making each through zarr-python costs four times the commit itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import JsonValue

from mercore.errors import StoreError

Document = dict[str, Any]


def encoded(document: Mapping[str, object]) -> bytes:
    """Return the document as UTF-8 JSON; what JSON cannot say is a StoreError."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"not storable as JSON: {error}") from error


def decoded(data: bytes, where: str) -> Document:
    """Return the JSON object in the file called `where`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StoreError(f"{where}: found {type(document).__name__}, expected a JSON object")
    return document


def noted(document: Document) -> Document:
    """Return what mercore noted in a zarr.json, nothing where that is of someone else."""
    attributes = document.get("attributes")
    found = attributes.get("mercore") if isinstance(attributes, dict) else None
    return found if isinstance(found, dict) else {}


def group(attributes: Mapping[str, JsonValue] | None = None) -> bytes:
    """Return the zarr.json of a group; ours are under the attribute ``mercore``."""
    document: Document = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    if attributes is not None:
        document["attributes"] = {"mercore": attributes}
    return encoded(document)


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
    if attributes is not None:
        document["attributes"] = {"mercore": attributes}
    return encoded(document)


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
