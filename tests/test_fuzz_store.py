"""No metadata of a store, whatever is in it, gives wrong values or a traceback.

What a sample's values are is known here: reading gives them, or says that they are not there, or
raises StoreError; or else comparing the rows with their checksums (`verify`) does.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import FUZZ, as_json, damaged, told, twisted

from mercore.errors import StoreError
from mercore.store import Collection, Row, Store

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
KINDS = ("few", "indexed", "compacted")
SEEDS = st.integers(0, 2**32)


def values(id: str) -> np.ndarray[Any, Any]:
    """Return what a sample has: 1 to 4 rows, which no other sample has."""
    number = WORDS.index(id.rstrip("0123456789")) + 10 * int(
        id.lstrip("abcdefghijklmnopqrstuvwxyz")
    )
    return np.arange(3 * (1 + number % 4), dtype=np.float32).reshape(-1, 3) + 100 * number


def fill(store: Store, kind: str) -> None:
    collection = store.create("features", kind, "f1", {"component": "toy", "dim": 3})
    for number in range(70 if kind == "indexed" else 3):
        ids = [f"{word}{number}" for word in WORDS[:3]]
        rows = [Row(id, values(id), source="a", record={"decision": "x"}) for id in ids]
        collection.commit([*rows, Row(f"hotel{number}", None, failed="no picture")])
    if kind == "compacted":
        collection.compact()
        collection.commit([Row("delta0", values("delta0"))])
    collection.note({"samples": 3, "wall": 1.0})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all kinds of metadata; it is copied, never changed."""
    path = tmp_path_factory.mktemp("kept") / "mer.zarr"
    for kind in KINDS:
        fill(Store(path), kind)
    return path


@pytest.fixture(scope="module")
def copy(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copy") / "mer.zarr"
    return Path(shutil.copytree(kept, path))


def metadata(root: Path) -> list[Path]:
    """Return what is read beside the rows, one of each many, by their names."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and not is_rows(path))
    few = [path for path in found if "indexed@" not in str(path) or "seg" not in path.parts]
    return [path.relative_to(root) for path in few]


def is_rows(path: Path) -> bool:
    return path.name.startswith("c.") and path.parent.name not in ("ids", "offsets")


def mutated(data: bytes, chance: random.Random, *, text: bool) -> bytes:
    if text and chance.random() < 0.7:
        return as_json(twisted(json.loads(data), chance, times=1))
    return damaged(data, chance)


def read_all(path: Path, kind: str) -> None:
    """Check that all that can be read is what was written."""
    collection = Store(path, create=False).collection("features", kind, "f1")
    if collection is None:
        return
    entries = collection.entries()
    ids = [id for id in entries if entries[id].failed is None]
    found = {id: collection.sequence(id) for id in ids}
    collection.notes()
    wrong = [id for id in ids if not known(id) or not np.array_equal(found[id], values(id))]
    if wrong:
        collection.verify()
        # JSON that is written here has no checksum, as that of older stores: no name is checked.
        renamed = [id for id in wrong if not known(id)]
        assert wrong == renamed


def known(id: str) -> bool:
    return id.rstrip("0123456789") in WORDS and id[-1:].isdecimal() and id[-1:].isascii()


@FUZZ
@given(seed=SEEDS, data=st.data())
def test_damaged_metadata_gives_no_wrong_values(
    kept: Path, copy: Path, seed: int, data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from(metadata(kept)))
    whole = (kept / at).read_bytes()
    (copy / at).write_bytes(mutated(whole, random.Random(seed), text=at.suffix == ".json"))
    try:
        for kind in [kind for kind in KINDS if f"{kind}@" in str(at)] or KINDS:
            with told(StoreError):
                read_all(copy, kind)
    finally:
        (copy / at).write_bytes(whole)


@pytest.fixture
def root(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "mer.zarr")
    return tmp_path / "mer.zarr"


def collection_of(root: Path, kind: str) -> Collection:
    found = Store(root).collection("features", kind, "f1")
    assert found is not None
    return found


def change(path: Path, **changes: object) -> None:
    """Give attributes of a zarr.json other values."""
    document = json.loads(path.read_bytes())
    document["attributes"]["mercore"] |= changes
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lengths": "abc"}, "damaged: unsupported operand"),
        ({"lengths": [1, 2, 3]}, "3 lengths of 4 samples"),
        ({"lengths": [1.0, 2, 3, 0]}, "'lengths' is no list of int"),
        ({"lengths": [-1, 2, 3, 4]}, "fewer than 0 rows"),
        ({"lengths": [1, 2, 3, 4]}, "a sample that failed has rows"),
        ({"lengths": [9, 2, 3, 0]}, "its array is not what was noted"),
        ({"ids": ["a", "a", "b", "hotel0"]}, "a sample is there twice"),
        ({"ids": [1, 2, 3, 4]}, "'ids' is no list of str"),
        ({"failed": {"zulu": "x"}}, "'failed' names a sample that is not there"),
        ({"failed": ["x"]}, "'failed' is no object"),
        ({"records": {"alpha0": 1}}, "'records' is no object"),
        ({"dtype": "object"}, "found the dtype 'object'"),
        ({"dtype": "float17"}, "damaged"),
        ({"dtype": "int32"}, "its array is not what was noted"),
        ({"shape": [3.5]}, "found rows of shape"),
        ({"shape": [2]}, "its array is not what was noted"),
        ({"crc32c": []}, "fewer checksums"),
        ({"dtype": None}, "rows of no dtype"),
    ],
)
def test_a_segment_that_cannot_be_is_named(
    root: Path, changes: dict[str, object], says: str
) -> None:
    first = sorted((root / "features/few@f1/seg").iterdir())[0]
    change(first / "zarr.json", **changes)
    with pytest.raises(StoreError, match=first.name) as caught:
        collection_of(root, "few").entries()
    assert says in str(caught.value)
    assert "run `mer repair`" in str(caught.value)


def test_a_folder_with_another_name_than_a_commit_is_named(root: Path) -> None:
    first = sorted((root / "features/few@f1/seg").iterdir())[0]
    shutil.copytree(first, first.with_name("copy of it"))
    with pytest.raises(StoreError, match="'copy of it': not a name that a commit has"):
        collection_of(root, "few").entries()


@pytest.mark.parametrize(
    "content", [b"{}", b"no JSON", b'{"segments": {"x": 1}}', b'{"segments": 1}']
)
def test_a_damaged_index_is_not_missed(root: Path, content: bytes) -> None:
    (index,) = (root / "features/indexed@f1/idx").iterdir()
    index.write_bytes(content)
    assert len(collection_of(root, "indexed").entries()) == 280
    collection_of(root, "indexed").compact()
    assert not list(index.parent.iterdir())


def test_a_changed_number_in_an_index_is_noticed(root: Path) -> None:
    (index,) = (root / "features/indexed@f1/idx").iterdir()
    whole = index.read_bytes()
    assert whole.count(b'"lengths":[1,') > 1
    index.write_bytes(whole.replace(b'"lengths":[1,', b'"lengths":[0,'))
    assert collection_of(root, "indexed").sequence("alpha0").shape == values("alpha0").shape


@pytest.mark.parametrize("what", ["ids", "offsets"])
def test_a_changed_list_of_a_base_is_noticed(root: Path, what: str) -> None:
    (chunk,) = root.glob(f"features/compacted@f1/base/*/{what}/c.0")
    data = bytearray(chunk.read_bytes())
    data[8] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match=f"damaged: the {what} are not those that were written"):
        collection_of(root, "compacted").entries()


def test_a_base_of_before_its_lists_had_checksums_is_read(root: Path) -> None:
    (base,) = root.glob("features/compacted@f1/base/0*/zarr.json")
    change(base, ids_crc32c=None, offsets_crc32c=None)
    assert len(collection_of(root, "compacted").entries()) == 13


@pytest.mark.parametrize("base", ["../../few@f1/seg", "/etc", "a/b", 3, "", "..", ["a"]])
def test_a_pointer_leads_nowhere_else(root: Path, base: object) -> None:
    (pointer,) = root.glob("features/compacted@f1/gen/*.json")
    pointer.write_text(json.dumps({"base": base, "consumed": []}))
    with pytest.raises(StoreError, match=r"1\.json: damaged: found the base"):
        collection_of(root, "compacted").entries()


@pytest.mark.parametrize("changes", [{"header": None}, {"created": "today"}, {"created": 3}])
def test_a_header_that_is_none_is_named(root: Path, changes: dict[str, object]) -> None:
    change(root / "features/few@f1/zarr.json", **changes)
    with pytest.raises(StoreError, match=r"few@f1/zarr.json: damaged: no header, or no time"):
        collection_of(root, "few")


@pytest.mark.parametrize("version", ["1", None, [1]])
def test_a_store_of_no_format_is_not_opened(root: Path, version: object) -> None:
    change(root / "zarr.json", format=version)
    with pytest.raises(StoreError, match=r"damaged zarr\.json: found format"):
        Store(root)


def test_attributes_that_are_none_are_those_of_others(root: Path) -> None:
    (root / "zarr.json").write_text('{"attributes": [1]}')
    with pytest.raises(StoreError, match="not a mercore store: found 'other Zarr data'"):
        Store(root)
    (root / "zarr.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match=r"zarr.json: not JSON: maximum recursion"):
        Store(root)


def test_rows_that_no_machine_can_hold_are_told_of(root: Path) -> None:
    (base,) = root.glob("features/compacted@f1/base/0*/zarr.json")
    change(base, shape=[2**50])
    collection = collection_of(root, "compacted")
    with pytest.raises(StoreError, match=r"expected one kind of row|cannot be had"):
        collection.sequence("alpha0")
