"""How extraction scales with worker processes: one and two measured, 1 to 64 simulated.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--uses whisper,face_expression,prosody]
        [--clips 280] [--repeat 3] [--samples 115595] [--encoders 6] [--decode-ms MS]
        [--encode-ms MS] [--latency-ms 30] [--batch-size N]

Measured: the clips of the demo set under as many ids as `--clips`, each starter encoder on the CPU,
in one worker and in two by turns; the best of `--repeat` runs. OMP_NUM_THREADS=1 gives each
worker one thread, so that the two differ in nothing but their number. The ratio is of clips a
second once the components are loaded.

Simulated, and no more than that: `--samples` clips of log-normal length (sigma 0.5) go through
`--encoders` encoders, those that were measured in turns, one after another. The engine's own
`Handout` hands them out to 1 to 64 workers. What a clip takes to decode and encode is what the
run with one worker took (`--decode-ms` and `--encode-ms` stand for others), and so are the time to
load, a commit, a message to the parent and the compaction in the end, which are measured here.
Of a disk, one worker commits at a time; on S3 all may. A commit on S3 takes what it takes with
moto's server on this machine, and `--latency-ms` more for each request, which is assumed.
`in a queue` is the share of the workers' time that they wait for the disk or the parent, `not
shared` the share of the wall time that more workers do not shorten: loading and compaction; `apart`
the seconds between the first worker that ends a feature and the last.
Not in it: reading clips over a network, other work on the machine, workers that end.
"""

from __future__ import annotations

import argparse
import heapq
import os
import pickle
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _many import project

from mercore.engines import Handout
from mercore.extraction import Outcome
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.store import Collection, Row, Store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

from places import KEYS, moto

INPUTS = {"whisper": "audio: audio", "prosody": "audio: audio", "face_expression": "frames: video"}
WORKERS = (1, 2, 4, 8, 16, 32, 64)
ROWS = 10_000
"""Samples whose compaction is measured."""


@dataclass(frozen=True)
class Costs:
    """Seconds that things take."""

    load: float
    decode: float
    """A clip, in one thread."""
    encode: float
    """A clip."""
    commit: float
    """A batch."""
    message: float
    """A batch, in the parent: a part handed out, a batch told of."""
    compact: float
    """A clip, once all are done."""
    alone: bool
    """Whether one worker commits at a time."""


def main() -> None:
    """Print what was measured, then what was simulated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uses", default="whisper,face_expression,prosody")
    parser.add_argument("--clips", type=int, default=280)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--samples", type=int, default=115_595)
    parser.add_argument("--encoders", type=int, default=6)
    parser.add_argument("--encode-ms", type=float, help="of a clip, in place of the measured")
    parser.add_argument("--decode-ms", type=float, help="of a clip, in place of the measured")
    parser.add_argument("--latency-ms", type=float, default=30.0, help="of a request to S3")
    parser.add_argument("--batch-size", type=int, default=16, help="clips of a simulated batch")
    given = parser.parse_args()
    print(f"Measured: {given.clips} clips. Seconds, summed over workers but for wall and load")
    print("| encoder | workers | wall | load | decode | wait | encode | write | clips/s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ones = [measured(uses, given.clips, given.repeat) for uses in given.uses.split(",")]
    (commit, compact), (there, requests) = disk(), s3()
    near = Costs(0.0, 0.0, 0.0, commit, message(), compact, alone=True)
    far = replace(near, commit=there + requests * given.latency_ms / 1e3, alone=False)
    print(f"\nSimulated: {given.samples:,} clips, {given.encoders} encoders. In milliseconds: of a")
    print(f"batch of {given.batch_size} a message {1e3 * near.message:.3f}, a commit on the disk")
    print(f"{1e3 * commit:.2f}, on S3 {1e3 * far.commit:.1f} ({1e3 * there:.1f} with moto, and")
    print(f"{requests} requests); of a clip its compaction {1e3 * compact:.3f}\n")
    print("| store | workers | hours | speed-up | of ideal | in a queue | not shared | apart |")
    print("|---|---|---|---|---|---|---|---|")
    for store, shared in (("disk", near), ("S3", far)):
        parts = [costs(one, given.decode_ms, given.encode_ms, shared) for one in ones]
        encoders = Counter(islice(cycle(parts), given.encoders))
        show(store, encoders, given.samples, given.batch_size)


def measured(uses: str, clips: int, repeat: int) -> Outcome:
    """Print a row for one worker and for two; return what the best run with one came to."""
    runs: dict[int, list[Outcome]] = {1: [], 2: []}
    for _ in range(repeat):
        for count, found in runs.items():
            with TemporaryDirectory() as folder:
                features = f"features:\n  one: {{uses: {uses}, inputs: {{{INPUTS[uses]}}}}}\n"
                machine = Machine(device="cpu", devices=f"cpu:{count}", threads=1)
                found += replace(project(Path(folder), clips, features), machine=machine).extract()
    first = 0.0
    for count, found in runs.items():
        spent = best(found).seconds
        rate = spent.samples / (spent.wall - spent.load)
        first = first or rate
        parts = (spent.wall, spent.load, spent.decode, spent.wait, spent.encode, spent.write, rate)
        numbers = " | ".join(f"{part:.2f}" for part in parts)
        print(f"| {uses} | {count} | {numbers} | {rate / first:.2f} |", flush=True)
    return best(runs[1])


def best(found: Sequence[Outcome]) -> Outcome:
    """Return the fastest run: other work on the machine only ever makes one slower."""
    return min(found, key=lambda outcome: outcome.seconds.wall - outcome.seconds.load)


def costs(one: Outcome, decode_ms: float | None, encode_ms: float | None, shared: Costs) -> Costs:
    """Return what an encoder takes, as it was measured with one worker or as it is given."""
    spent = one.seconds
    decode = spent.decode / spent.samples if decode_ms is None else decode_ms / 1e3
    encode = spent.encode / spent.samples if encode_ms is None else encode_ms / 1e3
    return replace(shared, load=spent.load, decode=decode, encode=encode)


def disk() -> tuple[float, float]:
    """Return the seconds of a commit on the disk of temporary files, and of compacting a clip."""
    with TemporaryDirectory() as folder:
        collection = Store(Path(folder) / "mer.zarr").create("features", "toy", "f", {})
        commit = committed(collection, ROWS)
        began = time.perf_counter()
        collection.compact()
        return commit, (time.perf_counter() - began) / ROWS


def s3() -> tuple[float, int]:
    """Return the seconds of a commit with moto's server, which runs here, and its requests."""
    os.environ.update(KEYS)
    with moto() as server:
        os.environ["AWS_ENDPOINT_URL"] = server.url
        collection = Store("s3://mer-tests/scaling.zarr").create("features", "toy", "f", {})
        committed(collection, 160)
        before = len(server.requests)
        seconds = committed(collection, 1600)
        return seconds, round((len(server.requests) - before) / 100)


def committed(collection: Collection, count: int) -> float:
    """Return the seconds of a commit of 16 vectors, the median of so many samples."""
    values, took = np.zeros((1, 512), np.float32), []
    for first in range(0, count, 16):
        rows = [Row(f"clip{first + n:06d}", values, "0" * 60) for n in range(16)]
        began = time.perf_counter()
        collection.commit(rows)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def message() -> float:
    """Return the seconds to pickle and unpickle a part of 16 samples and what is said of it."""
    part = [Sample(f"clip{n:06d}", "unlabelled", None, {"video": "/" * 60}) for n in range(16)]
    began = time.perf_counter()
    for _ in range(200):
        pickle.loads(pickle.dumps((part, [sample.id for sample in part])))
    return (time.perf_counter() - began) / 200


def show(store: str, encoders: Counter[Costs], count: int, size: int) -> None:
    """Print a row for each number of workers: the encoders one after another."""
    chance = random.Random(0)
    lengths = [chance.lognormvariate(-0.125, 0.5) for _ in range(count)]  # of mean 1
    first = 0.0
    for workers in WORKERS:
        wall = busy = waited = alone = apart = 0.0
        for each, times in encoders.items():
            ends, queued = simulated(each, lengths, workers, size)
            wall += times * (max(ends) + each.compact * count)
            alone += times * (each.load + each.compact * count)
            busy, waited = busy + times * sum(ends), waited + times * queued
            apart = max(apart, max(ends) - min(ends))
        first = first or wall
        speed = first / wall
        print(
            f"| {store} | {workers} | {wall / 3600:.2f} | {speed:.1f} | {speed / workers:.0%} "
            f"| {waited / busy:.0%} | {alone / wall:.0%} | {apart:.1f} s |",
            flush=True,
        )


def simulated(
    each: Costs, lengths: Sequence[float], workers: int, size: int
) -> tuple[list[float], float]:
    """Return when each worker ends, and how long all of them waited for others, in seconds."""
    samples = [Sample(str(n), "unlabelled", None, {}) for n in range(len(lengths))]
    handout = Handout(samples, lengths, workers, 2)
    jobs = [batches(handout, worker, size) for worker in range(workers)]
    events = [(each.load, worker, False) for worker in range(workers)]
    ends = [each.load] * workers
    disk = parent = waited = 0.0
    while events:  # in their order: a worker begins a batch, or has computed one
        now, worker, computed = heapq.heappop(events)
        if computed:
            begin = max(now, disk) if each.alone else now
            disk = begin + each.commit
            waited += begin - now
            heapq.heappush(events, (begin + each.commit, worker, False))
        elif batch := next(jobs[worker], None):
            parent = max(now, parent) + each.message
            waited += parent - each.message - now
            amount = sum(lengths[int(sample.id)] for sample in batch)
            done = parent + amount * max(each.decode, each.encode)
            heapq.heappush(events, (done, worker, True))
        else:
            ends[worker] = now
    return ends, waited


def batches(handout: Handout, worker: int, size: int) -> Iterator[Sequence[Sample]]:
    """Yield the batches of the parts that a worker is given, until there is no more for it."""
    while part := handout.next(worker):
        for first in range(0, len(part), size):
            batch = part[first : first + size]
            yield batch
            handout.done(worker, [sample.id for sample in batch])


if __name__ == "__main__":
    main()
