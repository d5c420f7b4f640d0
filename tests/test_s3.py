"""What is peculiar to a store on S3: its requests, its address, and what a disk cannot do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from places import BUCKET, Folder, Prefix

from mercore.errors import StoreError
from mercore.store import Collection, Row, Store
from mercore.store._base import Grid
from mercore.store._compact import clean, publish_base
from mercore.store._disk import LocalFiles
from mercore.store._files import Content
from mercore.store._s3 import GAP_BYTES, PART_BYTES, S3Files
from mercore.store._segments import CommitKeys, SegmentWriter
from mercore.store._view import load_view


def vectors(*ids: str, value: float = 1.0) -> list[Row]:
    return [Row(id, np.full((1, 2), value, np.float32)) for id in ids]


@pytest.fixture
def collection(s3: Prefix) -> Collection:
    return Store(s3.path).create("features", "toy", "f1", {})


def copied(source: Prefix | Folder, target: Prefix | Folder) -> Store:
    """Return the store that a copy of all files is."""
    for key in source.all():
        target.write(key, source.read(key))
    return Store(target.path, create=False)


def test_the_format_is_that_of_a_disk(s3: Prefix, tmp_path: Path) -> None:
    collection = Store(s3.path).create("features", "toy", "f1", {"dim": 2})
    collection.commit(vectors("a", "b"))
    collection.compact()
    collection.commit([*vectors("c", value=3), Row("d", None, failed="no audio")])
    on_disk = copied(s3, Folder(tmp_path / "copy.zarr"))["toy"]
    assert on_disk.matrix(["a", "c"])[:, 0].tolist() == [1, 3]
    back = copied(Folder(tmp_path / "copy.zarr"), Prefix(s3.server, f"{s3.prefix}/back"))["toy"]
    assert back.ids == ["a", "b", "c"]
    assert back.matrix(["a", "c"])[:, 0].tolist() == [1, 3]


def test_its_path_is_as_given_and_nothing_is_made_on_the_disk(
    s3: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(s3.path)
    store.create("features", "toy", "f1", {}).commit(vectors("a"))
    assert store.path == s3.path
    assert repr(store) == f"Store({s3.path!r})"
    assert not list(tmp_path.iterdir())


def test_a_prefix_may_be_any_text_and_a_bucket_may_be_a_store(s3: Prefix) -> None:
    odd = f"{s3.path}/é ü+%20&=/一 二"
    Store(odd).create("features", "toy", "f1", {}).commit(vectors("a"))
    assert list(Store(f"{odd}/", create=False)) == ["toy"]
    with pytest.raises(StoreError, match=f"s3://{BUCKET}: not a mercore store: found a folder"):
        Store(f"s3://{BUCKET}")


def test_the_empty_object_a_console_makes_for_a_folder_is_no_file(s3: Prefix) -> None:
    marker = f"{s3.server.url}/{BUCKET}/{s3.prefix}/"
    urllib.request.urlopen(urllib.request.Request(marker, method="PUT")).close()
    assert list(Store(s3.path)) == []


def test_an_endpoint_that_is_given_counts_before_the_environment(
    s3: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert list(Store(s3.path, endpoint=s3.server.url)) == []


def test_a_profile_of_aws_is_heeded(
    s3: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = "[team]\naws_access_key_id = ours\naws_secret_access_key = secret\n"
    (tmp_path / "credentials").write_text(profile)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    Store(s3.path)
    assert "Credential=ours/" in s3.server.signed[-1]
    monkeypatch.setenv("AWS_PROFILE", "them")
    with pytest.raises(StoreError, match=r"profile .* check AWS_PROFILE"):
        Store(s3.path)


def test_a_commit_is_two_requests(s3: Prefix, collection: Collection) -> None:
    collection.commit(vectors("a"))
    s3.server.requests.clear()
    collection.commit(vectors("b"))
    methods = [request.split()[0] for request in s3.server.requests]
    assert methods == ["PUT", "PUT"]
    assert s3.server.requests[1].endswith("/zarr.json")


@dataclass(frozen=True)
class Collected(LocalFiles):
    """Files that are only remembered."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def put(self, contents: dict[str, Content]) -> None:  # type: ignore[override]
        for key, content in contents.items():
            self.contents[key] = b"".join(bytes(piece) for piece in content)


@pytest.mark.parametrize(
    ("left_out", "most"),
    [
        pytest.param("nothing", 50, id="all"),
        pytest.param(".512.json", 96, id="none of 512"),
    ],
)
def test_115595_samples_in_3613_segments_are_resumed_in_few_requests(
    s3: Prefix, collection: Collection, left_out: str, most: int
) -> None:
    files = Collected(Path())
    writer = SegmentWriter(files, CommitKeys())
    ids = [str(number) for number in range(115_595)]
    for start in range(0, len(ids), 32):
        writer.write(vectors(*ids[start : start + 32]), None, "")
    kept = {key: data for key, data in files.contents.items() if not key.endswith(left_out)}
    s3.fill({f"{collection.identity.folder}/{key}": data for key, data in kept.items()})

    s3.server.requests.clear()
    again = Store(s3.path).create("features", "toy", "f1", {})
    assert len(again.entries()) == len(ids)
    assert len(s3.server.requests) <= most


def test_a_random_batch_is_one_request_a_file(s3: Prefix, collection: Collection) -> None:
    generator = np.random.default_rng(0)
    ids = [str(number) for number in range(200)]
    values = [generator.random((rows, 64), np.float32) for rows in generator.integers(1, 30, 200)]
    frames = Store(s3.path).create("frames", "toy", "f1", {})
    frames.commit([Row(id, each) for id, each in zip(ids, values, strict=True)])
    files = frames._files
    assert publish_base(files, load_view(files, {}), Grid(rows_per_chunk=50, chunks_per_shard=20))
    clean(files, load_view(files, {}).pointer)
    shards = [key for key in s3.all() if "/data/c." in key]
    assert len(shards) == 4
    frames.entries()

    s3.server.requests.clear()
    batch = generator.choice(200, 32, replace=False).tolist()
    found = frames.sequences([ids[each] for each in batch])
    assert len(s3.server.requests) == len(shards)
    for each, rows in zip(batch, found, strict=True):
        np.testing.assert_array_equal(rows, values[each])


def test_far_ranges_are_read_apart_and_near_ones_together(s3: Prefix) -> None:
    data = np.arange(5 * GAP_BYTES, dtype=np.uint32).astype(np.uint8)
    s3.write("file", data.tobytes())
    spans = [(at, np.empty(10, np.uint8)) for at in (4 * GAP_BYTES, 0, 100, 8, GAP_BYTES + 120)]
    s3.server.requests.clear()
    S3Files.at(s3.path).read_into("file", [*spans, (7, np.empty(0, np.uint8))])
    assert len(s3.server.requests) == 3
    for at, found in spans:
        np.testing.assert_array_equal(found, data[at : at + 10])


@pytest.mark.parametrize("at", [0, 60, 3 * GAP_BYTES])
def test_a_file_that_ends_too_early_is_reported(s3: Prefix, at: int) -> None:
    s3.write("file", bytes(100))
    spans = [(0, np.empty(10, np.uint8)), (at, np.empty(101, np.uint8))]
    with pytest.raises(StoreError, match=r"/file: (ends after 100 bytes, expected|.* is shorter)"):
        S3Files.at(s3.path).read_into("file", spans)


def test_a_large_file_is_sent_in_parts(s3: Prefix, collection: Collection) -> None:
    values = np.arange(PART_BYTES // 4 + 6, dtype=np.float32).reshape(1, -1)
    collection.commit([Row("a", values)])
    assert any(request.endswith("?uploads=") for request in s3.server.requests)
    np.testing.assert_array_equal(collection.matrix(["a"]), values)
    collection.verify()


def test_a_compaction_while_a_view_is_read_hides_nothing(
    s3: Prefix, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    reader = Store(s3.path).create("features", "toy", "f1", {})
    (key, _) = s3.names("features/toy@f1/seg")
    path = f"GET /{BUCKET}/{s3.prefix}/features/toy@f1/seg/{key}/zarr.json"
    s3.server.before[path] = collection.compact
    assert list(reader.entries()) == ["a"]
    assert not s3.server.before


def test_of_two_compactions_the_first_counts(s3: Prefix, collection: Collection) -> None:
    collection.commit(vectors("a"))
    late = Store(s3.path).create("features", "toy", "f1", {})
    pointer = f"PUT /{BUCKET}/{s3.prefix}/features/toy@f1/gen/1.json"
    s3.server.before[pointer] = collection.compact
    late.compact()
    assert not s3.server.before
    assert late.matrix(["a"]).tolist() == [[1, 1]]
    assert len(s3.names("features/toy@f1/base")) == 2  # one, and zarr.json


def test_only_an_old_uncommitted_segment_is_deleted(s3: Prefix, collection: Collection) -> None:
    from moto.s3.models import s3_backends

    collection.commit(vectors("a"))
    for key in ("00000000000001-dead0000-00000001", "new"):
        s3.write(f"features/toy@f1/seg/{key}/c.0.0", b"12345678")
    kept = s3_backends["123456789012"]["aws"].buckets[BUCKET].keys
    old = kept[f"{s3.prefix}/features/toy@f1/seg/00000000000001-dead0000-00000001/c.0.0"]
    old.last_modified = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=25)
    collection.compact()
    assert s3.names("features/toy@f1/seg") == ["new", "zarr.json"]


def test_a_copy_for_another_process_has_no_connections(collection: Collection) -> None:
    collection.commit(vectors("a"))
    assert b"obstore" not in pickle.dumps(collection)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told_to_be_spawned(s3: Prefix, collection: Collection) -> None:
    collection.commit(vectors("a"))
    program = """
import os, sys
from mercore.errors import StoreError
from mercore.store import Store
store = Store(sys.argv[1])
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    store["toy"].matrix(["a"])
except StoreError as error:
    os._exit(0 if 'multiprocessing_context="spawn"' in str(error) else 1)
os._exit(2)
"""
    command = [sys.executable, "-c", program, s3.path]
    assert subprocess.run(command, timeout=60).returncode == 0


def test_without_obstore_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r'pip install "mercore\[s3\]"'):
        Store("s3://bucket/prefix")
