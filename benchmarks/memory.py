"""Whether memory stays flat over many clips.

    python benchmarks/memory.py [--clips 5000]

Extracts a feature, its sequences kept, from the sound of that many mp4 files, and prints the
resident memory of the process every tenth of the way.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _many import project

from mercore.machine import Machine
from mercore.watch import Silent

REGISTRY = """\
features:
  prosody: {uses: prosody, inputs: {audio: audio}, frames: true}
"""
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20


class Meter(Silent):
    """A Watch that notes the memory as samples are committed."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.done = 0
        self.notes: list[tuple[int, float]] = []

    def start(self, name: str, total: int) -> None:
        """Count each feature anew."""
        print(f"\n{name}: clips, MiB")
        self.done, self.notes = 0, []

    def advance(self, name: str, done: int, failed: int) -> None:
        """Note the memory, once every so many samples."""
        self.done += done
        if self.done // self._every > len(self.notes):
            self.notes.append((self.done, resident()))
            print(f"{self.done:6d} {self.notes[-1][1]:8.1f}", flush=True)
        if len(self.notes) == 10:
            print(f"growth over the second half: {slope(self.notes[5:]):.3f} MiB a 1,000 clips")


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / MIB


def slope(notes: list[tuple[int, float]]) -> float:
    """Return the growth in MiB a 1,000 clips, by least squares."""
    clips, memory = np.array(notes).T
    return float(np.polyfit(clips / 1000, memory, 1)[0])


def main() -> None:
    """Extract one feature after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=5000)
    count = parser.parse_args().clips
    with TemporaryDirectory() as folder:
        whole = project(Path(folder), count, REGISTRY)
        replace(whole, machine=Machine(parallel=1), watch=Meter(count // 10)).extract()


if __name__ == "__main__":
    main()
