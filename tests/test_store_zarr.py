"""What the store writes is what zarr-python reads, and would have written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from places import Place

from mercore.store import Collection, Row, Store
from mercore.store._base import Grid, pack_strings, unpack_strings
from mercore.store._compact import publish_base
from mercore.store._disk import LocalFiles
from mercore.store._parts import Array
from mercore.store._view import load_view

KINDS = [
    ("float32", (5,)),
    ("float16", (3,)),
    ("uint8", ()),
    ("int16", ()),
    ("uint8", (4, 2, 3)),
    ("bool", (2,)),
]
GRID = Grid(rows_per_chunk=4, chunks_per_shard=3)


def filled(dtype: str, shape: tuple[int, ...]) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {
        f"样本/{number}": (generator.random((number % 7, *shape)) * 250 + 1).astype(dtype)
        for number in range(13)
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mer.zarr")


def folder_of(store: Store, collection: Collection) -> Path:
    return Path(store.path) / collection.identity.folder


def compacted(store: Store, collection: Collection, grid: Grid) -> Path:
    """Return the folder of a base whose files are cut by `grid`."""
    files = LocalFiles(folder_of(store, collection))
    assert publish_base(files, load_view(files, {}), grid)
    (base,) = (path.parent for path in files.root.glob("base/*/zarr.json"))
    return base


@pytest.mark.parametrize(("dtype", "shape"), KINDS)
def test_zarr_reads_a_segment(place: Place, dtype: str, shape: tuple[int, ...]) -> None:
    samples = filled(dtype, shape)
    store = Store(place.path)
    collection = store.create("frames", "toy", "f", {"rate": 50})
    collection.commit([Row(id, values) for id, values in samples.items()])
    key, _ = place.names("frames/toy@f/seg")  # the other is zarr.json
    group = zarr.open_group(place.zarr(), mode="r")
    array: Any = group[f"frames/toy@f/seg/{key}"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array[:], np.concatenate(list(samples.values())))
    noted = array.attrs["mercore"]
    assert noted["ids"] == list(samples)
    assert noted["lengths"] == [len(values) for values in samples.values()]
    assert group["frames/toy@f"].attrs["mercore"]["header"] == {"rate": 50}  # type: ignore[index,call-overload]
    assert set(group["frames/toy@f/seg"].keys()) == {key}  # type: ignore[union-attr]


@pytest.mark.parametrize(("dtype", "shape"), KINDS)
@pytest.mark.parametrize("grid", [GRID, Grid(1, 1), Grid(1000, 1), Grid(7, 100)])
def test_a_base_is_what_zarr_would_have_written(
    store: Store, tmp_path: Path, dtype: str, shape: tuple[int, ...], grid: Grid
) -> None:
    samples = filled(dtype, shape)
    collection = store.create("frames", "toy", "f", {})
    for id, values in samples.items():
        collection.commit([Row(id, values)])
    base = compacted(store, collection, grid)

    rows = np.concatenate(list(samples.values()))
    made = zarr.create_array(
        tmp_path / "made.zarr",
        shape=rows.shape,
        chunks=(grid.rows_per_chunk, *shape),
        shards=(grid.rows_per_shard, *shape),
        dtype=dtype,
        compressors=None,
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    made[:] = rows
    names = sorted(path.name for path in (tmp_path / "made.zarr").glob("c.*"))
    assert names == sorted(path.name for path in (base / "data").glob("c.*"))
    for name in names:
        written = (tmp_path / "made.zarr" / name).read_bytes()
        assert (base / "data" / name).read_bytes() == written, name

    array = zarr.open_array(base / "data", mode="r")
    assert replace(array.metadata, attributes={}) == made.metadata  # ours are a checksum
    np.testing.assert_array_equal(array[:], rows)
    found = collection.sequences(list(samples)[::-1])
    for values, expected in zip(found, list(samples.values())[::-1], strict=True):
        np.testing.assert_array_equal(values, expected)


def test_zarr_reads_a_base(place: Place) -> None:
    samples = filled("float32", (2,))
    store = Store(place.path)
    collection = store.create("frames", "toy", "f", {})
    collection.commit([Row(id, values) for id, values in samples.items()])
    collection.commit([Row("bad", None, failed="no audio")])
    collection.compact()
    name, _ = place.names("frames/toy@f/base")
    base: Any = zarr.open_group(place.zarr(), mode="r")[f"frames/toy@f/base/{name}"]
    assert base["ids"][:].tolist() == [*samples, "bad"]
    ends = np.cumsum([0, *(len(values) for values in samples.values()), 0])
    np.testing.assert_array_equal(base["offsets"][:], ends)
    np.testing.assert_array_equal(base["data"][:], np.concatenate(list(samples.values())))
    assert base.attrs["mercore"]["failed"] == {"bad": "no audio"}
    assert sorted(base.keys()) == ["data", "ids", "offsets"]


def test_rows_of_zeros_are_kept(store: Store) -> None:
    # zarr-python leaves chunks of zeros out of a shard; here they stay, so that rows lie in order.
    values = np.zeros((30, 2), np.float32)
    values[13] = 1
    collection = store.create("frames", "toy", "f", {})
    collection.commit([Row("a", values)])
    base = compacted(store, collection, GRID)
    np.testing.assert_array_equal(collection.sequence("a"), values)
    np.testing.assert_array_equal(zarr.open_array(base / "data", mode="r")[:], values)


def test_a_large_sample_lies_in_several_files(store: Store) -> None:
    values = np.arange(100, dtype=np.int16)
    collection = store.create("streams", "audio", "f", {})
    collection.commit([Row("a", values), Row("b", -values)])
    base = compacted(store, collection, GRID)
    assert len(list((base / "data").glob("c.*"))) == 17
    np.testing.assert_array_equal(collection.sequence("b"), -values)
    collection.verify()


def test_grids_keep_chunks_and_files_in_bounds() -> None:
    from mercore.store._base import CHUNK_BYTES, SHARD_BYTES
    from mercore.store._parts import RowType

    for kind in (
        RowType("float16", (1024,)),
        RowType("uint8", ()),
        RowType("uint8", (224, 224, 3)),
    ):
        grid = Grid.over(kind, 10**9)
        assert CHUNK_BYTES / 2 < grid.rows_per_chunk * kind.nbytes <= CHUNK_BYTES
        assert SHARD_BYTES / 2 < grid.rows_per_shard * kind.nbytes <= SHARD_BYTES
        assert Grid.over(kind, 1).rows_per_shard == 1
    assert Grid.over(RowType("float64", (10**6,)), 10).rows_per_chunk == 1


def test_strings_survive_packing_and_damage_is_reported() -> None:
    strings = ["", "a", "é" * 1000, "样本/1"]
    assert unpack_strings(pack_strings(strings)) == strings
    for damaged in (pack_strings(strings)[:3], pack_strings(strings)[:-1]):
        with pytest.raises(ValueError, match="the list of ids"):
            unpack_strings(damaged)


def test_reading_a_folder_imports_neither_zarr_nor_torch_nor_obstore(store: Store) -> None:
    collection = store.create("features", "toy", "f", {})
    collection.commit([Row("a", np.ones((1, 2), np.float32))])
    program = (
        "import sys; from mercore.store import Store\n"
        f"assert Store({str(store.path)!r})['toy'].matrix(['a']).shape == (1, 2)\n"
        "assert not {'zarr', 'torch', 'obstore'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
