"""Whether memory stays flat over many clips.

    python benchmarks/memory.py [--clips 5000] [--wav]

Extracts a feature, its sequences kept, from the sound of that many mp4 files, or with --wav from
as many recordings of a quarter of a second that are made here, and prints the resident memory of
the process every twentieth of the way.
"""

from __future__ import annotations

import argparse
import os
import wave
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
NOTES = 20
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
            if len(self.notes) == NOTES:
                half = self.notes[NOTES // 2 :]
                print(f"growth over the second half: {slope(half):.3f} MiB a 1,000 clips")


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / MIB


def slope(notes: list[tuple[int, float]]) -> float:
    """Return the growth in MiB a 1,000 clips, by least squares."""
    clips, memory = np.array(notes).T
    return float(np.polyfit(clips / 1000, memory, 1)[0])


def recordings(folder: Path, count: int) -> list[Path]:
    """Return wav files of a quarter of a second of noise, no two alike."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(count)]
    for path in paths:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(random.integers(-9_000, 9_000, 4_000).astype(np.int16).tobytes())
    return paths


def main() -> None:
    """Extract one feature after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--wav", action="store_true", help="make the clips here")
    given = parser.parse_args()
    with TemporaryDirectory() as folder, TemporaryDirectory() as made:
        files = recordings(Path(made), given.clips) if given.wav else None
        whole = project(Path(folder), given.clips, REGISTRY, files)
        machine, watch = Machine(device="cpu", parallel=1), Meter(given.clips // NOTES)
        replace(whole, machine=machine, watch=watch).extract()


if __name__ == "__main__":
    main()
