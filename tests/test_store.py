"""What a store does, on a disk and on S3 alike."""

from __future__ import annotations

import json
import pickle
import secrets
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from places import Place, Prefix

from mercore.errors import StoreError
from mercore.store import Collection, Entry, Row, Store

DTYPES = ["float32", "float16", "float64", "uint8", "int16", "int64", "bool", "complex64"]


def vectors(*ids: str, value: float = 1.0) -> list[Row]:
    return [Row(id, np.full((1, 2), value, np.float32)) for id in ids]


@pytest.fixture
def store(place: Place) -> Store:
    return Store(place.path)


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create("features", "toy", "f1", {"component": "toy", "dim": 2})


def segments(place: Place, collection: Collection) -> list[str]:
    """Return the folders of all segments, in their order."""
    folder = f"{collection.identity.folder}/seg"
    return [f"{folder}/{name}" for name in place.names(folder) if name != "zarr.json"]


def reopened(store: Store, collection: Collection) -> Collection:
    found = Store(store.path).collection(collection.group, collection.name, collection.fingerprint)
    assert found is not None
    return found


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data(), compacted=st.booleans())
def test_what_is_committed_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, compacted: bool
) -> None:
    check_what_is_read_back(str(tmp_path_factory.getbasetemp()), data, compacted)


@settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
@given(data=st.data(), compacted=st.booleans())
def test_what_is_committed_to_s3_is_read_back(
    s3: Prefix, data: st.DataObject, compacted: bool
) -> None:
    check_what_is_read_back(s3.path, data, compacted)


def check_what_is_read_back(path: str, data: st.DataObject, compacted: bool) -> None:
    """Commit any rows of any samples one by one to a new store below `path`, and read them."""
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    dtype = dtype.newbyteorder(data.draw(st.sampled_from("<>")))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    names = st.lists(st.text(max_size=8), unique=True)
    ids = data.draw(names.filter(lambda found: len(found) >= len(lengths)))[: len(lengths)]
    values = [data.draw(hnp.arrays(dtype, (rows, *shape))) for rows in lengths]
    fortran = data.draw(st.booleans())
    arranged = [np.asfortranarray(array) if fortran else array for array in values]
    rows = [Row(id, array) for id, array in zip(ids, arranged, strict=True)]

    opened = Store(f"{path}/{secrets.token_hex(8)}")  # another for each example
    collection = opened.create("frames", "toy", "f", {})
    for row in rows:
        collection.commit([row])
    if compacted:
        collection.compact()

    for id, array in zip(ids, values, strict=True):
        found = reopened(opened, collection).sequence(id)
        assert found.dtype == dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)
        for number, row in enumerate(array):
            np.testing.assert_array_equal(collection.row(id, number), row)
    assert list(collection.entries()) == ids


def test_non_contiguous_rows_are_read_back(collection: Collection) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(2, 12)
    collection.commit([Row("a", wide[1:, ::6]), Row("b", wide[:1, :2])])
    np.testing.assert_array_equal(collection.matrix(["b", "a"]), [[0, 1], [12, 18]])


def test_ids_may_be_any_text(store: Store, collection: Collection) -> None:
    ids = ["a/b", "../up", "一二", "with space", "", "é" * 300, "zarr.json"]
    for each in (ids[:3], ids[3:]):
        collection.commit([Row(id, np.full((1, 2), ids.index(id), np.float32)) for id in each])
    for _ in range(2):
        again = reopened(store, collection)
        assert list(again.entries()) == ids
        assert again.matrix(ids)[:, 0].tolist() == list(range(len(ids)))
        collection.compact()


def test_entries_tell_what_is_known(store: Store, collection: Collection) -> None:
    good = Row("good", np.zeros((1, 2), np.float32), "sha:1", {"score": 0.5, "text": "好"})
    collection.commit([good, Row("bad", None, "sha:2", failed="no audio")])
    expected = {
        "good": Entry(1, "sha:1", {"score": 0.5, "text": "好"}, None),
        "bad": Entry(0, "sha:2", {}, "no audio"),
    }
    assert collection.entries() == expected
    collection.compact()
    assert reopened(store, collection).entries() == expected


def test_what_is_noted_of_samples_is_that_of_their_latest_commits(collection: Collection) -> None:
    good = Row("good", np.zeros((1, 2), np.float32), record={"score": 0.5})
    collection.commit([good, Row("bad", None, failed="no audio"), *vectors("plain")])
    collection.commit([Row("late", None, failed="no video"), *vectors("good")])
    collection.compact()
    collection.commit(vectors("late"))
    entries = collection.entries()
    assert entries.keys() == {"good", "bad", "plain", "late"}
    assert entries.noted() == {"bad": Entry(0, "", {}, "no audio")}


def test_a_commit_of_failures_only_is_fine(store: Store, collection: Collection) -> None:
    collection.commit([Row("a", None, failed="broken")])
    collection.compact()
    collection.commit([Row("b", None, failed="broken too"), *vectors("c")])
    collection.compact()
    again = reopened(store, collection)
    assert [entry.failed for entry in again.entries().values()] == ["broken", "broken too", None]
    assert again.matrix(["c"]).tolist() == [[1, 1]]
    assert again.dim == 2


def test_the_latest_commit_of_a_sample_counts(store: Store, collection: Collection) -> None:
    collection.commit([*vectors("a", "b"), Row("c", None, failed="first try")])
    collection.commit(vectors("b", "c", value=2))
    collection.compact()
    collection.commit(vectors("a", value=3))
    for _ in range(2):
        again = reopened(store, collection)
        assert again.matrix(["a", "b", "c"])[:, 0].tolist() == [3, 2, 2]
        assert list(again.entries()) == ["a", "b", "c"]
        collection.compact()
    collection.commit([Row("a", None, failed="the file changed")])
    assert reopened(store, collection).entries()["a"].failed == "the file changed"


def test_a_late_commit_does_not_replace_a_later_one(
    place: Place, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a", "b"))
    (late,) = segments(place, collection)
    place.move(late, "aside")
    collection.commit(vectors("a", value=2))
    collection.compact()
    place.move("aside", late)
    for _ in range(2):
        assert reopened(store, collection).matrix(["a", "b"])[:, 0].tolist() == [2, 1]
        reopened(store, collection).compact()


def test_a_commit_after_the_clock_was_set_back_counts(
    place: Place, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    (first,) = segments(place, collection)
    folder, _, key = first.rpartition("/")
    milliseconds, rest = key.split("-", 1)
    place.move(first, f"{folder}/{int(milliseconds) + 86_400_000:014d}-{rest}")
    reopened(store, collection).commit(vectors("a", value=2))
    assert reopened(store, collection).matrix(["a"]).tolist() == [[2, 2]]
    reopened(store, collection).compact()
    reopened(store, collection).commit(vectors("a", value=3))
    assert reopened(store, collection).matrix(["a"]).tolist() == [[3, 3]]


def test_commits_of_another_are_seen(store: Store, collection: Collection) -> None:
    other = reopened(store, collection)
    other.commit(vectors("a"))
    assert list(collection.entries()) == ["a"]
    other.commit(vectors("b", value=2))
    assert collection.matrix(["a", "b"])[:, 0].tolist() == [1, 2]
    other.compact()
    other.commit(vectors("c", value=3))
    other.compact()
    assert collection.matrix(["a", "b", "c"])[:, 0].tolist() == [1, 2, 3]


def test_many_commits_are_read_from_index_objects(
    place: Place, store: Store, collection: Collection
) -> None:
    for number in range(130):
        collection.commit(vectors(str(number), value=number))
    index = f"{collection.identity.folder}/idx"
    assert len(place.names(index)) == 2
    ids = [str(number) for number in range(130)]
    assert reopened(store, collection).matrix(ids)[:, 0].tolist() == list(range(130))
    collection.compact()
    assert not place.names(index)
    assert reopened(store, collection).matrix(ids)[:, 0].tolist() == list(range(130))


def test_compaction_leaves_one_base(place: Place, collection: Collection) -> None:
    for number in range(3):
        collection.commit(vectors(str(number)))
        collection.compact()
        collection.compact()
    assert not segments(place, collection)
    assert len(place.names(f"{collection.identity.folder}/base")) == 2  # with zarr.json


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("x", np.zeros((1, 3), np.float32)), "found float32 rows of shape (3,), expected"),
        (Row("x", np.zeros((1, 2), np.float16)), "expected float32 rows of shape (2,)"),
        (Row("x", np.array(1.0)), "expected numbers of shape (rows, ...)"),
        (Row("x", np.array([["a", "b"]])), "expected numbers of shape (rows, ...)"),
        (Row("x", None), "found neither, expected either values or a failure"),
        (Row("x", np.zeros((1, 2), np.float32), failed="no"), "found both, expected either"),
        (Row("a", np.zeros((1, 2), np.float32)), "is given twice"),
        (
            Row("x", np.zeros((1, 2), np.float32), "", {"n": float("nan")}),
            "'x': not storable",
        ),
        (Row("\ud800", np.zeros((1, 2), np.float32)), "as JSON"),
    ],
)
@pytest.mark.parametrize("before", ["nothing", "segment", "base"])
@pytest.mark.parametrize("place", ["disk"], indirect=True)  # nothing is written
def test_rows_that_do_not_fit_are_refused(
    store: Store, collection: Collection, row: Row, message: str, before: str
) -> None:
    if before != "nothing":
        collection.commit(vectors("first"))
    if before == "base":
        collection.compact()
    again = reopened(store, collection)
    with pytest.raises(StoreError) as caught:
        again.commit([*vectors("a"), row])
    assert message in str(caught.value)
    assert "a" not in again.entries()


def test_missing_and_failed_samples_are_named(collection: Collection) -> None:
    collection.commit([*vectors("a"), Row("b", None, failed="no audio")])
    with pytest.raises(StoreError, match=r"7 of 9 samples are missing: '0', '1', .* and 2 more"):
        collection.matrix(["a", *map(str, range(7)), "b"])
    with pytest.raises(StoreError, match=r"1 of 2 samples failed: 'b' \(the first: 'no audio'\)"):
        collection.sequences(["a", "b"])


def test_a_matrix_is_of_one_row_a_sample(store: Store, collection: Collection) -> None:
    collection.commit([*vectors("a"), Row("b", np.zeros((3, 2), np.float32))])
    with pytest.raises(StoreError, match=r"1 of 2 samples do not have one row: 'b'"):
        collection.matrix(["a", "b"])
    assert collection.matrix([]).shape == (0, 2)
    assert collection.sequences([]) == []
    crops = store.create("streams", "faces", "f", {})
    crops.commit([Row("a", np.zeros((1, 4, 4, 3), np.uint8))])
    with pytest.raises(StoreError, match=r"expected \(dim,\)"):
        crops.matrix(["a"])
    assert crops.dim is None


def test_a_matrix_is_float32_and_sequences_of_the_dtype_asked_for(store: Store) -> None:
    halves = store.create("frames", "toy", "f", {})
    halves.commit([Row("a", np.ones((1, 2), np.float16))])
    assert halves.matrix(["a"]).dtype == np.float32
    assert halves.sequence("a").dtype == np.float16
    assert halves.sequence("a", np.float32).dtype == np.float32


def test_two_kinds_of_rows_in_one_collection_are_reported(
    store: Store, collection: Collection
) -> None:
    other = reopened(store, collection)
    assert not other.entries()
    collection.commit(vectors("a"))
    other.commit([Row("b", np.zeros((1, 3), np.float32))])  # has not seen the first
    with pytest.raises(StoreError, match="expected one kind of row"):
        collection.entries()


def test_damaged_rows_are_found(place: Place, store: Store, collection: Collection) -> None:
    collection.commit(vectors("a"))
    collection.verify()
    (segment,) = segments(place, collection)
    rows = f"{segment}/c.0.0"
    original = place.read(rows)
    place.write(rows, b"\x01" + original[1:])
    with pytest.raises(StoreError, match=r"c\.0\.0: found crc32c .* expected"):
        collection.verify()
    with pytest.raises(StoreError, match="1 damaged files"):
        collection.compact()
    place.write(rows, original[:-1])
    with pytest.raises(StoreError, match="ends after 7 bytes, expected 8"):
        reopened(store, collection).matrix(["a"])
    with pytest.raises(StoreError, match="ends after 7 bytes"):
        collection.verify()
    place.delete(rows)
    with pytest.raises(StoreError, match="missing, though it was committed"):
        collection.matrix(["a"])
    place.delete(f"{segment}/zarr.json")
    assert not collection.entries()


def test_a_damaged_base_is_found(place: Place, collection: Collection) -> None:
    collection.commit(vectors("a"))
    collection.compact()
    (shard,) = (key for key in place.all() if key.endswith("/data/c.0.0"))
    place.write(shard, b"\x01" + place.read(shard)[1:])
    with pytest.raises(StoreError, match="found crc32c"):
        collection.verify()


def test_notes_are_kept_in_order(store: Store, collection: Collection) -> None:
    for number in range(12):
        collection.note({"wall": number, "who": "é"})
    assert [note["wall"] for note in reopened(store, collection).notes()] == list(range(12))


def test_a_collection_is_made_once(store: Store, collection: Collection) -> None:
    again = store.create("features", "toy", "f1", {"component": "another"})
    assert again.header == {"component": "toy", "dim": 2}
    assert again.created == collection.created
    assert store.collection("features", "toy", "f2") is None


def test_collections_are_listed_and_removed(store: Store, collection: Collection) -> None:
    stream = store.create("streams", "text", "f", {})
    collection.commit(vectors("a"))
    collection.compact()
    assert [each.name for each in store.collections()] == ["toy", "text"]
    assert [each.name for each in store.collections("streams")] == ["text"]
    assert store.size(collection) > store.size(stream) > 0
    store.remove(collection)
    assert [each.name for each in store.collections()] == ["text"]
    assert not store.create("features", "toy", "f1", {}).entries()


def test_a_feature_is_found_by_name(store: Store, collection: Collection) -> None:
    frames = store.create("frames", "toy", "f1", {})
    collection.commit([*vectors("a"), Row("b", None, failed="no")])
    frames.commit([Row("a", np.ones((5, 2), np.float16))])
    toy = store["toy"]
    assert toy.ids == ["a"]
    assert toy.header["component"] == "toy"
    assert toy.matrix(["a"]).shape == (1, 2)
    assert toy.sequences(["a"])[0].shape == (5, 2)
    assert list(store) == ["toy"]
    assert "toy" in store


def test_a_feature_that_is_not_there_is_explained(store: Store, collection: Collection) -> None:
    with pytest.raises(StoreError, match="no feature 'tos'; did you mean 'toy'"):
        store["tos"]
    with pytest.raises(StoreError, match="no 'toy@f9'; found 'toy@f1'"):
        store["toy@f9"]
    with pytest.raises(StoreError, match="set `frames: true`"):
        store["toy"].sequences(["a"])


def test_of_several_fingerprints_the_marked_one_is_meant(
    store: Store, collection: Collection
) -> None:
    other = store.create("features", "toy", "f2", {})
    with pytest.raises(StoreError, match="name one of 'toy@f1', 'toy@f2'"):
        store["toy"]
    assert store["toy@f2"].fingerprint == "f2"
    other.mark()
    assert store["toy"].fingerprint == "f2"
    collection.mark()
    assert store["toy"].fingerprint == "f1"


def test_names_must_fit_into_a_path(store: Store) -> None:
    with pytest.raises(StoreError, match=r"name '\.\./up': expected letters"):
        store.create("features", "../up", "f", {})


def test_what_is_not_a_store_is_not_opened(place: Place) -> None:
    place.write("photo.jpg", b"")
    with pytest.raises(StoreError, match="not a mercore store: found a folder with 'photo"):
        Store(place.path)
    with pytest.raises(StoreError, match="no store there"):
        Store(f"{place.path}/missing", create=False)
    collection = Store(f"{place.path}/inner").create("features", "toy", "f", {})
    with pytest.raises(StoreError, match="not a mercore store: found 'collection'"):
        Store(f"{place.path}/inner/{collection.identity.folder}")
    place.write("other/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(StoreError, match="found 'other Zarr data'"):
        Store(f"{place.path}/other")


def test_a_newer_format_is_not_opened(place: Place, store: Store) -> None:
    document = json.loads(place.read("zarr.json"))
    document["attributes"]["mercore"]["format"] = 2
    place.write("zarr.json", json.dumps(document).encode())
    with pytest.raises(StoreError, match="found format 2, this version reads 1; upgrade"):
        Store(store.path)


def test_a_pickled_collection_is_another_writer(
    place: Place, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    copy = pickle.loads(pickle.dumps(collection))
    copy.commit(vectors("b"))
    collection.commit(vectors("c"))
    assert list(reopened(store, collection).entries()) == ["a", "b", "c"]
    assert len({key.split("-")[1] for key in segments(place, collection)}) == 2


def test_threads_may_commit_to_one_collection(store: Store, collection: Collection) -> None:
    ids = [str(number) for number in range(80)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda id: collection.commit(vectors(id, value=int(id))), ids))
    assert reopened(store, collection).matrix(ids)[:, 0].tolist() == list(range(80))
