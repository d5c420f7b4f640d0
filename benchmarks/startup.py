"""Measure what a command costs before it does any work: the CPU of fresh processes.

    python benchmarks/startup.py [--repeat 7]

Prints the medians of `repeat` interleaved rounds: CPU seconds (user and system), wall-clock
seconds, and CPU against ``python -c pass``. A round before them is not counted: it compiles what
was not compiled yet and brings the files into the page cache. CPU is the figure to go by; other
work on the machine adds to the wall clock and hardly to the CPU.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PLAIN = "python -c pass"


class Cost(NamedTuple):
    """What one process took, in seconds."""

    cpu: float
    wall: float


def commands() -> dict[str, Sequence[str]]:
    """Return what to run by what to call it, of the environment this runs in."""
    python, mer = sys.executable, str(Path(sys.executable).with_name("mer"))
    return {
        PLAIN: (python, "-c", "pass"),
        "mer --help": (mer, "--help"),
        "mer plugins": (mer, "plugins"),
        "mer check": (mer, "check", "--manifest", "examples/demo/manifest.csv"),
        "python -c 'import torch'": (python, "-c", "import torch"),
    }


def cost(command: Sequence[str]) -> Cost:
    """Return what the command takes; one that fails is a CalledProcessError."""
    before, start = children(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Cost(children() - before, time.perf_counter() - start)


def children() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run all rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=7)
    repeat = parser.parse_args().repeat
    costs: dict[str, list[Cost]] = defaultdict(list)
    for number in range(1 + repeat):
        for name, command in commands().items():
            spent = cost(command)
            if number:
                costs[name].append(spent)
    medians = {
        name: Cost(*map(statistics.median, zip(*each, strict=True))) for name, each in costs.items()
    }
    print(f"{'':26} {'CPU':>7} {'wall':>9}")
    for name, median in medians.items():
        ratio = median.cpu / medians[PLAIN].cpu
        print(f"{name:26} {median.cpu:7.3f} s {median.wall:7.3f} s {ratio:6.1f} x {PLAIN}")


if __name__ == "__main__":
    main()
