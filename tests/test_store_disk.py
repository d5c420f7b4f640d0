"""What only a disk does: it fills up, keeps unfinished files, is overtaken between two names."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mercore.errors import StoreError
from mercore.store import Collection, Row, Store
from mercore.store._disk import LocalFiles
from mercore.store._files import Content


def vectors(*ids: str) -> list[Row]:
    return [Row(id, np.ones((1, 2), np.float32)) for id in ids]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mer.zarr"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder)


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create("features", "toy", "f1", {"component": "toy", "dim": 2})


def reopened(store: Store, collection: Collection) -> Collection:
    found = Store(store.path).collection(collection.group, collection.name, collection.fingerprint)
    assert found is not None
    return found


def segments(folder: Path, collection: Collection) -> list[Path]:
    found = (folder / collection.identity.folder / "seg").iterdir()
    return sorted(path for path in found if path.is_dir())


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match="expected a folder"):
        Store(tmp_path / "photo.jpg")


@dataclass(frozen=True)
class RefusingFiles(LocalFiles):
    """A disk that takes nothing more."""

    reason: int = 0

    def _stage(self, path: Path, content: Content) -> Path:
        raise OSError(self.reason, os.strerror(self.reason), str(path))


@pytest.mark.parametrize(
    ("reason", "cure"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "check the perm")]
)
def test_a_disk_that_cannot_be_written_is_named(
    folder: Path, store: Store, collection: Collection, reason: int, cure: str
) -> None:
    collection.commit(vectors("a"))
    refusing = Store(folder, files=RefusingFiles(folder, reason))
    full = refusing.collection("features", "toy", "f1")
    assert full is not None
    attempts: list[Callable[[], None]] = [partial(full.commit, vectors("b")), full.compact]
    for attempt in attempts:
        with pytest.raises(StoreError) as caught:
            attempt()
        assert str(folder) in str(caught.value)
        assert os.strerror(reason) in str(caught.value)
        assert cure in str(caught.value)
    assert list(full.entries()) == ["a"]
    bases = folder / collection.identity.folder / "base"
    assert [each.name for each in bases.iterdir()] == ["zarr.json"]


def test_only_an_old_uncommitted_segment_is_deleted(
    folder: Path, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    inside = folder / collection.identity.folder / "seg"
    for name, age in (("00000000000001-dead0000-00000001", 90_000), ("new", 0)):
        (inside / name).mkdir()
        (inside / name / "c.0.0").write_bytes(b"12345678")
        then = time.time() - age
        os.utime(inside / name, (then, then))
    assert list(reopened(store, collection).entries()) == ["a"]
    collection.compact()
    assert [path.name for path in segments(folder, collection)] == ["new"]


@dataclass(frozen=True)
class OvertakenFiles(LocalFiles):
    """A disk on which something happens just before a folder is listed or a file is written."""

    overtake: list[Callable[[], object]] = field(default_factory=list)

    def list(self, folder: str) -> list[str]:
        if folder == "seg" and self.overtake:
            self.overtake.pop()()
        return super().list(folder)

    def _stage(self, path: Path, content: Content) -> Path:
        if self.overtake:
            self.overtake.pop()()
        return super()._stage(path, content)


def test_a_compaction_while_a_view_is_read_hides_nothing(
    folder: Path, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    files = OvertakenFiles(folder / collection.identity.folder, [collection.compact])
    reader = Collection(files, collection.identity)
    assert list(reader.entries()) == ["a"]
    assert not files.overtake


def test_of_two_compactions_the_first_counts(
    folder: Path, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    files = OvertakenFiles(folder / collection.identity.folder)
    late = Collection(files, collection.identity)
    assert list(late.entries()) == ["a"]
    other = reopened(store, collection)
    files.overtake[:] = [other.compact, lambda: other.commit(vectors("b"))]
    late.compact()
    assert not files.overtake
    assert late.matrix(["a", "b"]).tolist() == [[1, 1], [1, 1]]


@dataclass(frozen=True)
class LosingFiles(LocalFiles):
    """A disk on which another compaction is done before this one has written its ids."""

    overtake: list[Callable[[], object]] = field(default_factory=list)

    def _publish(self, temporary: Path, path: Path) -> None:
        if path.parent.name == "ids" and self.overtake:
            self.overtake.pop()()
        super()._publish(temporary, path)


def test_a_compaction_that_is_overtaken_gives_up(
    folder: Path, store: Store, collection: Collection
) -> None:
    collection.commit(vectors("a"))
    other = reopened(store, collection)
    files = LosingFiles(folder / collection.identity.folder, [other.compact])
    Collection(files, collection.identity).compact()
    assert not files.overtake
    assert reopened(store, collection).matrix(["a"]).tolist() == [[1, 1]]
    assert len(list((files.root / "base").iterdir())) == 2  # the other's, and zarr.json


def test_a_file_is_not_replaced_by_a_later_one(tmp_path: Path) -> None:
    files = OvertakenFiles(tmp_path)
    files.overtake.append(lambda: LocalFiles(tmp_path).put({"1.json": [b"first"]}))
    assert not files.put_new("1.json", [b"second"])
    assert files.get("1.json") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_another_writer(folder: Path, store: Store) -> None:
    program = """
import os, sys
import numpy as np
from mercore.store import Row, Store
collection = Store(sys.argv[1]).create("features", "toy", "f1", {})
row = np.zeros((1, 2), np.float32)
collection.commit([Row("before", row)])
child = os.fork()
collection.commit([Row("parent" if child else "child", row)])
if child:
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    collection = store.create("features", "toy", "f1", {})
    assert set(collection.entries()) == {"before", "parent", "child"}
    assert len({path.name.split("-")[1] for path in segments(folder, collection)}) == 2
