"""Several processes at one collection, and PyTorch's workers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from places import Place, Prefix
from torch.utils.data import DataLoader

from mercore.store import Collection, Row, Store

WRITER = """
import sys, time
import numpy as np
from mercore.store import Row, Store

path, name, hours = sys.argv[1:]
right = time.time_ns
time.time_ns = lambda: right() + int(hours) * 3600 * 10**9
collection = Store(path).create("frames", "toy", "f", {})
for number in range(0, 40, 2):
    rows = [Row(f"{name}{n}", np.full((n % 3, 2), n, np.float32)) for n in (number, number + 1)]
    rows.append(Row("shared", np.full((1, 2), number, np.float32)))
    collection.commit(rows)
    print(number, flush=True)
"""


@pytest.fixture
def store(place: Place) -> Store:
    return Store(place.path)


def writers(store: Store, names: str = "xy") -> list[subprocess.Popen[bytes]]:
    """Begin writers whose clocks are hours apart."""
    command = [sys.executable, "-c", WRITER, str(store.path)]
    return [
        subprocess.Popen([*command, name, str(5 - hours)], stdout=subprocess.PIPE)
        for hours, name in enumerate(names)
    ]


def check(collection: Collection) -> int:
    """Return how many samples there are, all of which must hold what was written."""
    ids = [id for id in collection.entries() if id != "shared"]
    for id, values in zip(ids, collection.sequences(ids), strict=True):
        number = int(id[1:])
        np.testing.assert_array_equal(values, np.full((number % 3, 2), number, np.float32))
    return len(ids)


@pytest.mark.parametrize(
    ("place", "names"), [("disk", "xy"), ("s3", "stuvwxyz")], indirect=["place"]
)
def test_writers_a_compaction_and_a_reader_at_once_lose_nothing(store: Store, names: str) -> None:
    reader = store.create("frames", "toy", "f", {})
    compactor = store.create("frames", "toy", "f", {})
    running = writers(store, names)
    seen = 0
    while any(process.poll() is None for process in running):
        compactor.compact()
        now = check(reader)
        assert now >= seen
        seen = now
    assert [process.wait() for process in running] == [0] * len(names)
    for process in running:
        process.communicate()
    for _ in range(2):
        assert check(reader) == 40 * len(names)
        assert reader.sequence("shared").tolist() == [[38, 38]]
        reader.verify()
        compactor.compact()


def test_two_compactions_at_once_lose_nothing(store: Store) -> None:
    collection = store.create("frames", "toy", "f", {})
    program = (
        "import sys; from mercore.store import Store\n"
        "collection = Store(sys.argv[1]).create('frames', 'toy', 'f', {})\n"
        "for line in sys.stdin: collection.compact(); print(flush=True)"
    )
    command = [sys.executable, "-c", program, str(store.path)]
    pipe = subprocess.PIPE
    racing = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for number in range(8):
        rows = [Row(f"x{number}", np.full((number % 3, 2), number, np.float32))]
        collection.commit(rows)
        for process in racing:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        for process in racing:
            assert process.stdout
            assert process.stdout.readline() == "\n"
        assert check(collection) == number + 1
    for process in racing:
        process.communicate()
        assert process.returncode == 0


def test_a_killed_writer_leaves_only_whole_commits(store: Store) -> None:
    running = writers(store)
    acknowledged = []
    for process in running:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(20)]
        process.kill()
        lines += process.stdout.readlines()
        process.communicate()
        acknowledged.append(int(lines[-1]))
    collection = store.create("frames", "toy", "f", {})
    check(collection)
    for name, last in zip("xy", acknowledged, strict=True):
        assert {f"{name}{number}" for number in range(last + 2)} <= set(collection.entries())
    collection.verify()


@pytest.fixture
def filled(store: Store) -> Store:
    vectors, frames = (store.create(group, "toy", "f", {}) for group in ("features", "frames"))
    for number in range(20):
        vectors.commit([Row(str(number), np.full((1, 3), number, np.float32))])
        frames.commit([Row(str(number), np.full((number, 3), number, np.float16))])
        if number == 10:
            vectors.compact()
    return store


def test_a_data_loader_reads_vectors_in_workers(place: Place, filled: Store) -> None:
    ids = [str(number) for number in range(20)]
    dataset = filled["toy"].dataset(ids, labels=list(range(20)))
    # obstore does not survive a fork; a disk does. A worker that is spawned imports torch first.
    start, workers = ("spawn", 1) if isinstance(place, Prefix) else (None, 2)
    loader = DataLoader(
        dataset, batch_size=8, num_workers=workers, shuffle=True, multiprocessing_context=start
    )
    seen = []
    for values, labels in loader:
        assert values.shape == (len(labels), 3)
        assert values[:, 0].tolist() == labels.tolist()
        seen += labels.tolist()
    assert sorted(seen) == list(range(20))


def test_a_dataset_has_sequences_too(filled: Store) -> None:
    dataset = filled["toy"].dataset(["3", "0", "19"], frames=True)
    assert len(dataset) == 3
    loader = DataLoader(dataset, batch_size=None, num_workers=0)
    assert [tuple(values.shape) for values in loader] == [(3, 3), (0, 3), (19, 3)]


def test_a_dataset_survives_a_compaction(filled: Store) -> None:
    dataset = filled["toy"].dataset([str(number) for number in range(20)], labels=[1] * 20)
    values, label = dataset[4]
    assert (values.tolist(), label) == ([4, 4, 4], 1)
    found = filled.collection("features", "toy", "f")
    assert found is not None
    found.compact()
    assert dataset[15][0].tolist() == [15, 15, 15]
