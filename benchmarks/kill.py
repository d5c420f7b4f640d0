"""Kill extraction, training, mining, compaction and repair at random, and look for what was lost.

    python benchmarks/kill.py [--kills 50] [--samples 1000] [--seed 0] [JOB]...

Each runs as a process of its own that says what it was told is on the disk (kill_child.py), and is
killed (SIGKILL) so many times, once in each of so many equal parts of its work, counted in files
that are written and samples that are done. Of `workers`, an extraction by two worker processes, one
of the three is killed. What is left is compared, byte for byte, with what an undisturbed one left;
then it is run to its end.

    in the middle  killed after the first change of a file and before the end
    known          samples (of a training: branches) that were there or said to be done
    lost           of these, not there afterwards
    wrong          there, but not what the undisturbed one left
    torn           stores and run folders with a damaged or incomplete part
    not mended     not like the undisturbed one after running again

The exit status is 1 if one of the last four is not 0. The plugin is that of the tests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kill_child import PRELOADED, child, run
from kill_jobs import Found, Job, jobs, make_experiment

from mercore.errors import MercoreError

TOYS = str(Path(__file__).parent.parent / "tests" / "toys")
ENDLESS = 600.0
COLUMNS = ("kills", "in the middle", "known", "lost", "wrong", "torn", "not mended")


class Killed(NamedTuple):
    """What became of a process."""

    said: set[str]
    """What it said to be done."""
    took: float | None
    """Seconds, where the kill came too late."""
    steps: int
    """How often it had said something."""
    changed: bool
    """Whether it had changed a file when the kill came."""


def killed(job: Job, folder: Path, steps: int, seconds: float, chance: random.Random) -> Killed:
    """Begin a job, and kill it, or one of its workers, so many seconds after so many steps."""
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    before = sorted(folder.rglob("*"))
    process = context.Process(target=child, args=(job.commands(folder)[0], writer))
    process.start()
    writer.close()  # the child has its own: the pipe ends with it
    heard = [reader.recv()]  # it begins
    with suppress(EOFError):
        heard += [reader.recv() for _ in range(steps)]
        end = time.perf_counter() + seconds
        while reader.poll(max(0, end - time.perf_counter())):
            heard.append(reader.recv())
    assert process.pid
    victim = chance.choice([process.pid, *(workers_of(process.pid) if job.workers else [])])
    with suppress(ProcessLookupError):  # it has ended
        os.kill(victim, signal.SIGKILL)
    changed = sorted(folder.rglob("*")) != before
    with suppress(EOFError, OSError):  # killed within a message
        while True:
            heard.append(reader.recv())
    process.join()
    if victim == process.pid and process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{job.commands(folder)[0]} ended with status {process.exitcode}")
    took = [each for each in heard if isinstance(each, float)]
    said = {name.removeprefix(f"{folder}/") for each in heard if each not in took for name in each}
    late = took[0] if took and victim == process.pid else None
    return Killed(said, late, len(heard), changed)


def workers_of(process: int) -> list[int]:
    """Return the worker processes that a process has begun; Linux knows."""
    with suppress(FileNotFoundError):  # it, or one of them, has ended
        begun = [each.read_text() for each in Path(f"/proc/{process}/task").glob("*/children")]
        pids = [int(pid) for pid in " ".join(begun).split()]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return []


def examine(
    job: Job, folder: Path, wanted: Found, steps: int, seconds: float, chance: random.Random
) -> Counter[str]:
    """Return the counts of one kill."""
    job.prepare(folder)
    known = set(job.look(folder))
    kill = killed(job, folder, steps, seconds, chance)
    known |= kill.said
    counts = Counter({"kills": 1, "known": len(known)})
    counts["in the middle"] = int(kill.took is None and kill.changed)
    try:
        found = job.look(folder)
        counts["lost"] = len(known - found.keys())
        counts["wrong"] = sum(found[key] != wanted.get(key) for key in found)
    except (MercoreError, ValueError) as error:
        print(f"killed {seconds:.4f} s after step {steps}: {error}", file=sys.stderr)
        counts["torn"] = 1
    counts["not mended"] = int(finished(job, folder) != wanted)
    shutil.rmtree(folder)
    return counts


def finished(job: Job, folder: Path) -> Found | None:
    """Return what is there once all was run to its end; None where that cannot be."""
    try:
        for command in job.commands(folder):
            run(command)
        return job.look(folder)
    except (MercoreError, ValueError) as error:
        print(error, file=sys.stderr)
        return None


def examine_all(job: Job, home: Path, kills: int, chance: random.Random) -> Counter[str]:
    """Return the counts of all kills."""
    home.mkdir()
    for folder in (home / "first", home / "undisturbed"):
        job.prepare(folder)
        whole = killed(job, folder, 0, ENDLESS, chance)
    wanted = finished(job, folder)
    assert wanted
    assert whole.took
    total: Counter[str] = Counter()
    for number in range(kills):
        at = whole.steps * (number + chance.random()) / kills
        seconds = whole.took / whole.steps * (at - int(at))
        total += examine(job, home / str(number), wanted, int(at), seconds, chance)
    return total


def benchmark() -> None:
    """Print one row of counts a job."""
    parser = argparse.ArgumentParser(description="Kill at random moments.")
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="such as training; default: all")
    for name, default in (("kills", 50), ("samples", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    sys.path.insert(0, TOYS)
    multiprocessing.set_forkserver_preload(PRELOADED)
    print("| |", " | ".join(COLUMNS), "|\n|" + "---|" * (1 + len(COLUMNS)), flush=True)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        home, chance = Path(folder), random.Random(given.seed)
        make_experiment(home, given.samples, chance)
        for name, job in jobs(home, given.samples).items():
            if name in (given.jobs or [name]):
                counts = examine_all(job, home / name, given.kills, chance)
                print(f"| {name} |", *(f"{counts[column]} |" for column in COLUMNS), flush=True)
                total += counts
    sys.exit(any(total[column] for column in COLUMNS[3:]))


if __name__ == "__main__":
    benchmark()
