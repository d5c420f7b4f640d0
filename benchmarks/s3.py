"""Count and time the requests of a store on S3, against moto's server on this machine.

    python benchmarks/s3.py [--latency 0.0] [--samples 400] [--repeat 3]

Prints a table: requests, and the median of the seconds. Committing and resuming are of vectors of
8 float32 in 3,613 segments of 32 (the 115,595 unlabelled clips of MER2024); a random batch is 32
of `samples` sequences of about 200 x 1024 float16, once through the store and once through
zarr-python, in turns. The server runs in this very process, reads a whole file for each range that
is asked for, and waits `latency` seconds before it answers (not while the 3,613 segments are
committed): count the requests, and take the seconds for what they are.
Needs what the tests need: obstore and moto.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mercore.store import Collection, Row, Store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

from places import KEYS, Prefix, Server, moto

BATCH = 32
SAMPLES = 115_595


@dataclass(frozen=True)
class Meter:
    """Counts and times what is done to a server."""

    server: Server
    repeat: int

    def row(self, what: str, *actions: Callable[[], object]) -> None:
        """Print what each action costs, the median of all rounds; actions take turns."""
        costs: list[list[tuple[int, float]]] = [[] for _ in actions]
        for _ in range(self.repeat):
            for action, measured in zip(actions, costs, strict=True):
                self.server.requests.clear()
                start = time.perf_counter()
                action()
                measured.append((len(self.server.requests), time.perf_counter() - start))
        for label, measured in zip(what.split(" / "), costs, strict=True):
            requests, seconds = zip(*measured, strict=True)
            print(
                f"| {label} | {statistics.median(requests):g} | {statistics.median(seconds):.3f} |"
            )


def opened(place: Prefix, group: str) -> Collection:
    """Return the collection as a process finds it that has read nothing of it yet."""
    return Store(place.path).create(group, "toy", "f", {})


def rows(number: int) -> list[Row]:
    """Return a batch of vectors."""
    ids = range(number * BATCH, min((number + 1) * BATCH, SAMPLES))
    return [Row(f"sample_{id:08d}", np.ones((1, 8), np.float32)) for id in ids]


def sequences(samples: int) -> list[Row]:
    """Return samples of different length."""
    generator = np.random.default_rng(0)
    made = (generator.random((n, 1024), np.float32) for n in generator.integers(100, 300, samples))
    return [Row(str(id), values.astype(np.float16)) for id, values in enumerate(made)]


def zarr_reader(place: Prefix, collection: Collection) -> Callable[[list[str]], list[Any]]:
    """Return the function that reads samples through zarr-python, which has opened the array."""
    import zarr

    base, _ = place.names("frames/toy@f/base")
    array: Any = zarr.open_array(place.zarr(), path=f"frames/toy@f/base/{base}/data", mode="r")
    entries = collection.entries()
    ends = dict(zip(entries, np.cumsum([each.length for each in entries.values()]), strict=True))
    return lambda ids: [array[ends[id] - entries[id].length : ends[id]] for id in ids]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    os.environ.update(KEYS)
    print("| what | requests | seconds |\n|---|---|---|")
    with moto() as server:
        os.environ["AWS_ENDPOINT_URL"] = server.url
        meter, place = Meter(server, options.repeat), Prefix(server, "bench/mer.zarr")
        writer = opened(place, "features")
        for number in range(-(-SAMPLES // BATCH)):
            writer.commit(rows(number))
        frames = opened(place, "frames")
        made = sequences(options.samples)
        for start in range(0, len(made), BATCH):
            frames.commit(made[start : start + BATCH])
        frames.compact()
        server.latency = options.latency
        meter.row("resume 3,613 segments", lambda: opened(place, "features").entries())
        meter.row("commit of 32 vectors", lambda: writer.commit(rows(0)))
        ids = [str(id) for id in np.random.default_rng(1).choice(options.samples, BATCH)]
        both = "32 random sequences, the store / 32 random sequences, zarr-python"
        read = zarr_reader(place, frames)
        meter.row(both, lambda: frames.sequences(ids), lambda: read(ids))


if __name__ == "__main__":
    main()
