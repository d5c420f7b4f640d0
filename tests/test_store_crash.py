"""Dying before, within and after each change of a file: nothing acknowledged may be lost.

The same places once more where the process lives on, and is told that the disk refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from store_states import NEW, OLD, State, prepared, rows_of, state_of

from mercore.errors import StoreError
from mercore.store import Collection, Store
from mercore.store._disk import LocalFiles, _told
from mercore.store._files import Bytes, Content
from mercore.store._segments import INDEXED_COMMITS


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync, which is for the machine's death."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Death(BaseException):
    """The process is gone: nothing after it runs, as no handler catches it."""


@dataclass
class Fuse:
    left: int | None = None
    """Changes until the end; None for never."""
    reason: int | None = None
    """The error that all later changes meet; None for death."""

    def burn(self, *, deleting: bool = False) -> None:
        if self.left is None or (deleting and self.reason == errno.ENOSPC):
            return
        self.left -= 1
        if self.left >= 0:
            return
        if self.reason is None:
            raise Death
        raise OSError(self.reason, os.strerror(self.reason))


class Halves(list[bytes | Bytes]):
    """What a file is to hold; the fuse burns once half of it is written."""

    def __init__(self, content: Content, fuse: Fuse) -> None:
        data = b"".join(bytes(piece) for piece in content)
        super().__init__([data[: len(data) // 2], data[len(data) // 2 :]])
        self.fuse = fuse

    def __iter__(self) -> Iterator[bytes | Bytes]:
        yield self[0]
        self.fuse.burn()
        yield self[1]


@dataclass(frozen=True)
class DyingFiles(LocalFiles):
    fuse: Fuse = field(default_factory=Fuse)

    def _stage(self, path: Path, content: Content) -> Path:
        self.fuse.burn()
        return super()._stage(path, Halves(content, self.fuse))

    def _publish(self, temporary: Path, path: Path) -> None:
        self.fuse.burn()
        super()._publish(temporary, path)
        self.fuse.burn()  # done, but not answered: a network disk is asked once more

    def _publish_new(self, temporary: Path, path: Path) -> None:
        self.fuse.burn()
        super()._publish_new(temporary, path)
        self.fuse.burn()

    def delete(self, key: str) -> None:
        with _told(self.root / key, "delete"):
            self.fuse.burn(deleting=True)
        super().delete(key)

    def remove(self, folder: str) -> None:
        with _told(self.root / folder, "delete"):
            for path in sorted((self.root / folder).rglob("*")):
                if path.is_file():
                    self.fuse.burn(deleting=True)
                    path.unlink()
            self.fuse.burn(deleting=True)
        super().remove(folder)


def opened(path: Path) -> Collection:
    return Store(path).create("frames", "toy", "f", {})


def deaths(
    tmp_path: Path,
    prepare: Callable[[Collection], None],
    act: Callable[[Collection], None],
    most: int = 1000,
) -> Sequence[Collection]:
    """Return the collections left behind by dying at each change that `act` makes."""
    left: list[Collection] = []
    while len(left) < most:
        path = tmp_path / str(len(left))
        fuse = Fuse()
        collection = Store(path, files=DyingFiles(path, fuse)).create("frames", "toy", "f", {})
        prepare(collection)
        fuse.left = len(left)
        try:
            act(collection)
        except Death:
            left.append(opened(path))
            continue
        break
    assert len(left) > 3, "nothing was changed on the way"
    return left


@pytest.mark.parametrize("prepare", [prepared, lambda collection: collection.commit(rows_of(OLD))])
def test_a_commit_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, prepare: Callable[[Collection], None]
) -> None:
    left = deaths(tmp_path, prepare, lambda collection: collection.commit(rows_of(NEW)))
    for collection in left:
        found = state_of(collection)
        assert found in (OLD, {**OLD, **NEW})
        collection.verify()
        collection.compact()
        assert state_of(collection) == found
        collection.commit(rows_of(NEW))
        assert state_of(collection) == {**OLD, **NEW}


def test_a_compaction_may_die_anywhere(tmp_path: Path) -> None:
    for collection in deaths(tmp_path, prepared, Collection.compact):
        assert state_of(collection) == OLD
        collection.verify()
        collection.commit(rows_of(NEW))
        assert state_of(collection) == {**OLD, **NEW}
        collection.compact()
        assert state_of(collection) == {**OLD, **NEW}
        # What the dead compaction left is gone too: one base is there, and no segment.
        folder = Path(collection._files.named(""))
        assert [path.name for path in (folder / "seg").iterdir()] == ["zarr.json"]
        assert len(list((folder / "base").glob("*/zarr.json"))) == 1


def test_a_compaction_may_die_twice(tmp_path: Path) -> None:
    for number, once in enumerate(deaths(tmp_path, prepared, Collection.compact)[::3]):
        once.commit(rows_of(NEW))
        folder = Path(once._files.named("")).parent.parent
        for left in range(0, 40, 3):
            fuse = Fuse(left)
            again = Store(folder, files=DyingFiles(folder, fuse)).create("frames", "toy", "f", {})
            with suppress(Death):
                again.compact()
            assert state_of(opened(folder)) == {**OLD, **NEW}, (number, left)


def test_writing_an_index_object_may_die_anywhere(tmp_path: Path) -> None:
    before: State = {str(number): number for number in range(INDEXED_COMMITS - 1)}

    def prepare(collection: Collection) -> None:
        for id, what in before.items():
            collection.commit(rows_of({id: what}))

    left = deaths(tmp_path, prepare, lambda collection: collection.commit(rows_of(NEW)))
    assert len(left) == 12  # three files: the segment's two and the index object
    for collection in left:
        found = state_of(collection)
        assert found in (before, {**before, **NEW})
        collection.compact()
        assert state_of(opened(Path(collection._files.named("")).parent.parent)) == found


def test_making_a_store_may_die_anywhere(tmp_path: Path) -> None:
    number = 0
    while True:
        path, number = tmp_path / str(number), number + 1
        with suppress(Death):
            Store(path, files=DyingFiles(path, Fuse(number - 1))).create("frames", "toy", "f", {})
            break
        collection = opened(path)
        collection.commit(rows_of(OLD))
        assert state_of(opened(path)) == OLD
    assert number > 10


def remove(collection: Collection) -> None:
    assert isinstance(collection._files, DyingFiles)
    folder = collection._files.root.parent.parent
    Store(folder, files=DyingFiles(folder, collection._files.fuse)).remove(collection)


def test_removing_a_collection_may_die_anywhere(tmp_path: Path) -> None:
    for collection in deaths(tmp_path, prepared, remove):
        state = state_of(collection)  # made again: what is left of it can be read
        assert all(id in OLD for id in state)
        collection.commit(rows_of(OLD))
        collection.compact()
        assert state_of(collection) == OLD


def test_what_is_left_of_an_indexed_collection_can_be_read(tmp_path: Path) -> None:
    many: State = {str(number): number for number in range(INDEXED_COMMITS)}

    def prepare(collection: Collection) -> None:
        for id, what in many.items():
            collection.commit(rows_of({id: what}))

    for collection in deaths(tmp_path, prepare, remove, most=10):
        assert state_of(collection).items() <= many.items()


def test_noting_and_marking_may_die_anywhere(tmp_path: Path) -> None:
    def note(collection: Collection) -> None:
        collection.note({"wall": 1})
        collection.mark()

    for collection in deaths(tmp_path, prepared, note):
        assert collection.notes() in ([], [{"wall": 1}])
        assert state_of(collection) == OLD
        collection.mark()
        assert collection.marked()


def refusals(
    tmp_path: Path, reason: int, act: Callable[[Collection], None]
) -> Iterator[tuple[Collection, Fuse]]:
    """Yield the collections, still in use, of which one more change went well before `reason`."""
    for number in range(1000):
        path, fuse = tmp_path / str(number), Fuse(reason=reason)
        collection = Store(path, files=DyingFiles(path, fuse)).create("frames", "toy", "f", {})
        prepared(collection)
        fuse.left = number
        try:
            act(collection)
        except StoreError as error:
            if os.strerror(reason) not in str(error):
                raise
            yield collection, fuse
        else:
            return


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("act", [lambda each: each.commit(rows_of(NEW)), Collection.compact])
def test_what_the_disk_refuses_is_told_and_what_was_there_stays(
    tmp_path: Path, reason: int, act: Callable[[Collection], None]
) -> None:
    count = 0
    for collection, fuse in refusals(tmp_path, reason, act):
        found = state_of(collection)
        assert found in (OLD, {**OLD, **NEW})
        assert state_of(opened(tmp_path / str(count))) == found
        fuse.left = None  # there is room again
        act(collection)
        assert state_of(collection) in (OLD, {**OLD, **NEW})
        collection.commit(rows_of(NEW))
        collection.compact()
        assert state_of(opened(tmp_path / str(count))) == {**OLD, **NEW}
        collection.verify()
        count += 1
    assert count > 5


@pytest.mark.parametrize("act", [lambda each: each.commit(rows_of(NEW)), Collection.compact])
def test_a_full_disk_is_not_left_with_half_written_files(
    tmp_path: Path, act: Callable[[Collection], None]
) -> None:
    for number, _ in enumerate(refusals(tmp_path, errno.ENOSPC, act)):
        left = [path for path in (tmp_path / str(number)).rglob("*") if path.is_file()]
        assert [path for path in left if path.name.startswith(".")] == []


@pytest.mark.parametrize("synced", range(3))
def test_what_could_not_be_made_durable_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: int
) -> None:
    collection = opened(tmp_path / "store")
    collection.commit(rows_of(OLD))
    fuse = Fuse(synced, errno.EIO)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: fuse.burn())
        with pytest.raises(StoreError, match=r"cannot write: Input/output error"):
            collection.commit(rows_of(NEW))
    assert state_of(collection) in (OLD, {**OLD, **NEW})
    collection.commit(rows_of(NEW))
    assert state_of(opened(tmp_path / "store")) == {**OLD, **NEW}
