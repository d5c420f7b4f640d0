"""Time the store against one .npy file a sample and against a memory map, in one run.

    python benchmarks/store.py [--folder DIR] [--repeat 3] [--scale 1.0]

Prints the medians of `repeat` interleaved rounds: seconds, then how often the time of the .npy
files (writing) or of a copied memory map (reading) that is, in each round; maps and store are read
in turns, since what it costs to get new memory changes. Vectors are 20,000 x 1024 float32;
sequences are 1,000 of about 200 x 1024 float16; both are committed in batches of 32, with fsync,
while the .npy files are written without, and each twentieth with it ("synced").
Entries are those of 115,595 samples, read by a collection that was just opened. Files are in the
page cache, as they were just written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore.store import Collection, Row, Store

BATCH = 32
READS = 3
"""How often all is read in a round."""
SAMPLES = 115_595  # the unlabelled clips of MER2024
Arrays = Sequence[NDArray[Any]]
Times = dict[str, list[float]]


@contextmanager
def timed(times: Times, what: str) -> Iterator[None]:
    """Add the seconds the block takes."""
    start = time.perf_counter()
    yield
    times[what].append(time.perf_counter() - start)


def opened(folder: Path) -> Collection:
    """Return the collection as a process finds it that has read nothing of it yet."""
    return Store(folder / "mer.zarr").create("frames", "toy", "f", {})


def commit(folder: Path, arrays: Arrays) -> None:
    """Write the arrays to the store."""
    collection = opened(folder)
    for start in range(0, len(arrays), BATCH):
        batch = enumerate(arrays[start : start + BATCH], start)
        collection.commit([Row(str(number), values) for number, values in batch])


def save(folder: Path, arrays: Arrays, *, sync: bool = False) -> None:
    """Write one .npy file a sample."""
    folder /= "synced" if sync else "npy"
    folder.mkdir()
    for number, values in enumerate(arrays):
        with open(folder / f"{number}.npy", "wb") as file:
            np.save(file, values)
            if sync:
                file.flush()
                os.fsync(file.fileno())


def compare(times: Times, folder: Path, arrays: Arrays) -> None:
    """Time all ways to write and to read the arrays once."""
    np.save(folder / "all.npy", np.concatenate(arrays))
    with timed(times, "write, .npy"):
        save(folder, arrays)
    with timed(times, "write, .npy synced x 1/20"):
        save(folder, arrays[::20], sync=True)
    os.sync()  # or the first commits would wait for those files
    with timed(times, "write, segments"):
        commit(folder, arrays)
    ids = [str(number) for number in range(len(arrays))]
    ends = np.cumsum([0, *map(len, arrays)]).tolist()
    some = np.random.default_rng(0).integers(0, len(arrays), 32).tolist()
    for _ in range(READS):
        read_mapped(times, ".npy", folder, ends, some)
        read_saved(times, folder, ids, some)
    for _ in range(READS):
        read_mapped(times, "segments", folder, ends, some)
        read_stored(times, "segments", folder, ids, some)
    with timed(times, "compact"):
        opened(folder).compact()
    for _ in range(READS):
        read_mapped(times, "base", folder, ends, some)
        read_stored(times, "base", folder, ids, some)


def read_mapped(
    times: Times, beside: str, folder: Path, ends: Sequence[int], some: Sequence[int]
) -> None:
    """Time reading from the memory map, just before something else is."""
    with timed(times, f"read all, memmap before {beside}"):
        mapped = np.load(folder / "all.npy", mmap_mode="r")
        np.array(mapped)
    with timed(times, f"read 32, memmap before {beside}"):
        [np.array(mapped[ends[n] : ends[n + 1]]) for n in some]


def read_saved(times: Times, folder: Path, ids: Sequence[str], some: Sequence[int]) -> None:
    """Time reading from the .npy files."""
    with timed(times, "read all, .npy"):
        [np.load(folder / "npy" / f"{id}.npy") for id in ids]
    with timed(times, "read 32, .npy"):
        [np.load(folder / "npy" / f"{n}.npy") for n in some]


def read_stored(
    times: Times, what: str, folder: Path, ids: Sequence[str], some: Sequence[int]
) -> None:
    """Time reading from the store, which must know its samples as any run does before."""
    collection = opened(folder)
    with timed(times, f"open, {what}"):
        found = collection.entries()
    vectors = all(entry.length == 1 for entry in found.values())
    get = collection.matrix if vectors else collection.sequences
    with timed(times, f"read all, {what}"):
        get(ids)
    with timed(times, f"read 32, {what}"):
        get([ids[n] for n in some])


def entries(times: Times, folder: Path, samples: int) -> None:
    """Time what a resumed run asks first."""
    rows = np.ones((1, 8), np.float32)
    collection = opened(folder)
    for start in range(0, samples, BATCH):
        stop = min(start + BATCH, samples)
        names = [f"sample_{number:08d}" for number in range(start, stop)]
        collection.commit([Row(name, rows, "0123456789abcdef" * 2) for name in names])
    for what in ("segments", "base"):
        for _ in range(5):
            again = opened(folder)
            with timed(times, f"entries, {what}"):
                assert len(again.entries()) == samples
            with timed(times, f"entries again, {what}"):
                again.entries()
            with timed(times, f"all of them, {what}"):
                dict(again.entries())
        if what == "segments":
            again.compact()


def table(title: str, times: Times) -> None:
    """Print the medians, of the seconds and of the ratios to the yardstick beside each."""
    print(f"\n{title}")
    for what, seconds in times.items():
        action, _, kind = what.partition(", ")
        yard = ".npy" if action == "write" else f"memmap before {kind}"
        pairs = zip(seconds, times.get(f"{action}, {yard}", ()), strict=False)
        ratios = [one / other for one, other in pairs]
        ratio = f"{statistics.median(ratios):8.2f} x {yard.split()[0]}" if ratios else ""
        print(f"  {what:32} {statistics.median(seconds):9.4f} s {ratio}")


def main() -> None:
    """Run all rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; emptied again")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of samples")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    count = int(20_000 * options.scale)
    vectors = list(generator.standard_normal((count, 1, 1024), np.float32))
    lengths = generator.integers(100, 300, int(1_000 * options.scale)).tolist()
    one = generator.standard_normal((300, 1024), np.float32).astype(np.float16)
    sequences = [one[:length] + np.float16(number) for number, length in enumerate(lengths)]

    def rounds(run: Callable[[Times, Path], None], repeat: int) -> Times:
        times: Times = defaultdict(list)
        for _ in range(repeat):
            folder = Path(tempfile.mkdtemp(dir=options.folder))
            run(times, folder)
            shutil.rmtree(folder)
        return times

    shape = f"{count} vectors of 1024 float32"
    table(shape, rounds(lambda times, folder: compare(times, folder, vectors), options.repeat))
    shape = f"{len(sequences)} sequences of about 200 x 1024 float16"
    table(shape, rounds(lambda times, folder: compare(times, folder, sequences), options.repeat))
    samples = int(SAMPLES * options.scale)
    found = rounds(lambda times, folder: entries(times, folder, samples), 1)
    table(f"entries of {samples} samples", found)


if __name__ == "__main__":
    main()
