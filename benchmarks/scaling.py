"""How extraction scales with worker processes: one and two measured, 1 to 64 simulated.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--uses whisper] [--clips 280] [--repeat 3]
        [--samples 115595] [--encode-ms MS] [--commit-ms MS] [--batch-size N]

Measured: the clips of the demo set under as many ids as `--clips`, one starter encoder on the CPU,
in one worker and in two by turns; the median of `--repeat` runs. OMP_NUM_THREADS=1 gives each
worker one thread, so that the two differ in nothing but their number. The ratio is of clips a
second once the components are loaded.

Simulated, and no more than that: `--samples` clips of log-normal length (sigma 0.5) are handed out
by the engine's own `Handout` to 1 to 64 workers. What a clip takes to decode and encode is what the
run with one worker took (`--encode-ms` stands for another encoder or a GPU), and so are the time to
load, a commit, a message to the parent and the compaction in the end, which are measured here.
Of a disk, one worker commits at a time; on S3 (`--commit-ms`, 60 a commit unless given) all may.
`in a queue` is the share of the workers' time that they wait for the disk or the parent, `not
shared` the share of the wall time that more workers do not shorten: loading and compaction.
Not in it: reading clips over a network, other work on the machine, workers that end.
"""

from __future__ import annotations

import argparse
import heapq
import pickle
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _many import project

from mercore.engines import Handout
from mercore.extraction import Outcome
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.store import Row, Store

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
    parser.add_argument("--uses", default="whisper", choices=sorted(INPUTS))
    parser.add_argument("--clips", type=int, default=280)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--samples", type=int, default=115_595)
    parser.add_argument("--encode-ms", type=float, help="of a clip, in place of the measured")
    parser.add_argument("--commit-ms", type=float, default=60.0, help="of a batch on S3")
    parser.add_argument("--batch-size", type=int, default=16, help="clips of a simulated batch")
    given = parser.parse_args()
    one = measured(given.uses, given.clips, given.repeat)
    disk = costs(one, given.encode_ms)
    print(
        f"\nSimulated: {given.samples:,} clips, batches of {given.batch_size}. A clip: decode "
        f"{1e3 * disk.decode:.2f} ms, encode {1e3 * disk.encode:.2f} ms; a commit "
        f"{1e3 * disk.commit:.2f} ms; a message {1e3 * disk.message:.3f} ms; load {disk.load:.1f} s"
    )
    print(
        "| store | workers | minutes | speed-up | of ideal | in a queue | not shared | ends apart |"
    )
    print("|---|---|---|---|---|---|---|---|")
    s3 = replace(disk, commit=given.commit_ms / 1e3, alone=False)
    for name, each in {"disk": disk, "S3": s3}.items():
        show(name, each, given.samples, given.batch_size)


def measured(uses: str, clips: int, repeat: int) -> Outcome:
    """Print a row for one worker and for two; return what the middle run with one came to."""
    runs: dict[int, list[Outcome]] = {1: [], 2: []}
    for _ in range(repeat):
        for count, found in runs.items():
            with TemporaryDirectory() as folder:
                features = f"features:\n  one: {{uses: {uses}, inputs: {{{INPUTS[uses]}}}}}\n"
                machine = Machine(device="cpu", devices=f"cpu:{count}", threads=1)
                found += replace(project(Path(folder), clips, features), machine=machine).extract()
    print(f"Measured: {clips} clips, {uses}. Seconds, summed over workers but for wall and load")
    print("| workers | wall | load | decode | wait | encode | write | clips/s | ratio | slowest |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    first = 0.0
    for count, found in runs.items():
        outcome = middle(found)
        spent = outcome.seconds
        rate = spent.samples / (spent.wall - spent.load)
        first = first or rate
        parts = (spent.wall, spent.load, spent.decode, spent.wait, spent.encode, spent.write, rate)
        numbers = " | ".join(f"{part:.2f}" for part in parts)
        print(f"| {count} | {numbers} | {rate / first:.2f} | {outcome.slowest} |", flush=True)
    return middle(runs[1])


def middle(found: Sequence[Outcome]) -> Outcome:
    """Return the run of median speed."""
    ranked = sorted(found, key=lambda outcome: outcome.seconds.wall - outcome.seconds.load)
    return ranked[len(ranked) // 2]


def costs(one: Outcome, encode_ms: float | None) -> Costs:
    """Return what things took, on the disk of temporary files."""
    spent = one.seconds
    with TemporaryDirectory() as folder:
        collection = Store(Path(folder) / "mer.zarr").create("features", "toy", "f", {})
        values, took = np.zeros((1, 512), np.float32), []
        for first in range(0, ROWS, 16):
            rows = [Row(f"clip{first + n:06d}", values, "0" * 60) for n in range(16)]
            began = time.perf_counter()
            collection.commit(rows)
            took.append(time.perf_counter() - began)
        began = time.perf_counter()
        collection.compact()
        compact = (time.perf_counter() - began) / ROWS
    encode = spent.encode / spent.samples if encode_ms is None else encode_ms / 1e3
    decode = spent.decode / spent.samples
    return Costs(spent.load, decode, encode, statistics.median(took), message(), compact, True)


def message() -> float:
    """Return the seconds to pickle and unpickle a part of 16 samples and what is said of it."""
    part = [Sample(f"clip{n:06d}", "unlabelled", None, {"video": "/" * 60}) for n in range(16)]
    began = time.perf_counter()
    for _ in range(200):
        pickle.loads(pickle.dumps((part, [sample.id for sample in part])))
    return (time.perf_counter() - began) / 200


def show(name: str, each: Costs, count: int, size: int) -> None:
    """Print a row for each number of workers."""
    chance = random.Random(0)
    lengths = [chance.lognormvariate(-0.125, 0.5) for _ in range(count)]  # of mean 1
    first = 0.0
    for workers in WORKERS:
        ends, waited = simulated(each, lengths, workers, size)
        wall = max(ends) + each.compact * count
        first = first or wall
        speed = first / wall
        queue, alone = waited / sum(ends), (each.load + each.compact * count) / wall
        print(
            f"| {name} | {workers} | {wall / 60:.1f} | {speed:.1f} | {speed / workers:.0%} "
            f"| {queue:.0%} | {alone:.0%} | {max(ends) - min(ends):.1f} s |",
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
