"""Whether processes decode faster than threads.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py [--clips 120] [--repeat 5] [--workers 2]

Decodes the clips of the demo (192 x 192) and others of 1280 x 720 that are made here, their sound
and 4 frames of each, in one thread, in two, and in processes that send what they decoded to their
parent, as an encoder there would need it. Clips a second in the best of the rounds, which are
interleaved: other work on the machine only ever makes them longer. The processes are started
before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from extraction import demo, enlarged

from mercore.decode import decode
from mercore.media import Audio, Media, Spec, Video

SPECS: dict[str, Spec] = {
    "sound, 16 kHz": Audio(16_000),
    "4 frames": Video(count=4),
    "5 frames/s": Video(rate=5),
}


def main() -> None:
    """Print a row for each kind of clip and what is asked of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    spawn = get_context("spawn")
    pools: dict[str, Executor] = {
        "1 thread": ThreadPoolExecutor(1),
        f"{given.workers} threads": ThreadPoolExecutor(given.workers),
        "1 process": ProcessPoolExecutor(1, spawn),
        f"{given.workers} processes": ProcessPoolExecutor(given.workers, spawn),
    }
    print("| clips | asked for |", " | ".join(pools), "|\n|" + "---|" * (2 + len(pools)))
    with TemporaryDirectory() as folder:
        small, large = demo(), [enlarged(path, Path(folder)) for path in demo()[:8]]
        for size, paths in (("192 x 192", small), ("1280 x 720", large)):
            for asked, spec in SPECS.items():
                if size == "192 x 192" or isinstance(spec, Video):
                    rates = measured(pools, paths, spec, given.clips, given.repeat)
                    numbers = " | ".join(f"{rate:.0f}" for rate in rates)
                    print(f"| {size} | {asked} | {numbers} |", flush=True)
    for pool in pools.values():
        pool.shutdown()


def measured(
    pools: dict[str, Executor], paths: Sequence[Path], spec: Spec, clips: int, repeat: int
) -> list[float]:
    """Return clips a second of each pool, in the best of its rounds."""
    files = [str(path) for path in islice(cycle(paths), clips)]
    work = partial(medium, spec=spec)
    taken: dict[str, list[float]] = {name: [] for name in pools}
    for number in range(repeat + 1):
        for name, pool in pools.items():
            began = time.perf_counter()
            for _ in pool.map(work, files):
                pass
            if number:  # the first round starts the processes
                taken[name].append(time.perf_counter() - began)
    return [clips / min(seconds) for seconds in taken.values()]


def medium(path: str, spec: Spec) -> Media:
    """Return what is decoded of one file."""
    return decode(path, spec)


if __name__ == "__main__":
    main()
