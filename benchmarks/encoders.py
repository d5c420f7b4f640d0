"""How fast encoders are beside the loop that MERTools uses, on a CPU.

    python benchmarks/encoders.py [hubert] [vit] [--clips 24] [--rounds 5]

The network has its published size and random weights; the clips have mixed lengths. The loop takes
one file after the other: it decodes, encodes in float32 by transformers with all hidden states,
sums the last four layers, and saves the mean over time as .npy. It is written anew here, from a
description. The other rows are extractions by mercore, from file to store: a new store a round.
Each row is a process of its own, loaded once or, by mercore, once a round; loading is not counted.
The rounds are interleaved, so that all rows see the same machine, and a ratio is the median over
the rounds. Errors are the largest difference from the loop's features as a share of their largest
value. Peak memory is that of the row's whole process, loading included.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import IO, Any, Final

import numpy as np

from mercore.dataset import read_dataset
from mercore.machine import Machine
from mercore.manifest import Manifest
from mercore.project import Project

SUBJECTS: Final = ("hubert", "vit")
"""Each has a module ``_<subject>.py`` beside this one."""
LOOP: Final = "loop"
ROWS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "torch float32": ("float32", {}),
    "torch bfloat16": ("bfloat16", {}),
    "ONNX float32": ("float32", {"backend": "onnx"}),
    "ONNX int8": ("float32", {"backend": "onnx", "int8": True}),
}
"""What dtype and options are added to those of the subject."""
THREADS: Final = "2"
CLASSES: Final = ("one", "two")


def main() -> None:
    """Print a row a way of encoding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(SUBJECTS)}; all of them")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        serve(given.subjects[0], given.row, given.folder)
        return
    for subject in given.subjects or SUBJECTS:
        with TemporaryDirectory() as folder:
            prepare(subject, Path(folder), given.clips)
            show(subject, Path(folder), given.rounds)


def prepare(name: str, folder: Path, clips: int) -> None:
    """Write the checkpoint, the clips, their manifest, and a registry a row."""
    subject = importlib.import_module(f"_{name}")
    subject.checkpoint(folder / "checkpoint")
    lines = [f"id,split,{subject.COLUMN}"]
    (folder / "clips").mkdir()
    for number in range(clips):
        path = subject.clip(folder / "clips" / f"{number:04d}", number, clips)
        lines.append(f"{path.stem},unlabelled,clips/{path.name}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    for row, (dtype, own) in ROWS.items():
        options = {"checkpoint": str(folder / "checkpoint"), **subject.OPTIONS, **own}
        feature = subject.REGISTRY.format(dtype=dtype, options=json.dumps(options))
        (folder / f"{row}.yaml").write_text(
            f"classes: [{', '.join(CLASSES)}]\nfeatures:\n  own: {feature}\n"
            "fusion: linear\nbranches:\n  one: own\n"
        )


class Row:
    """A process that encodes all clips each time it is asked to."""

    def __init__(self, subject: str, name: str, folder: Path) -> None:
        self.file = folder / f"{name}.features.npy"
        self.seconds: list[float] = []
        command = [sys.executable, __file__, subject, "--row", name, "--folder", str(folder)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), THREADS)
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "MERCORE_CACHE": str(folder / "cache")},
        )

    def round(self) -> dict[str, float]:
        """Encode all clips; return what the process tells: seconds, and peak memory in MiB."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("\n")
        stdin.flush()
        told: dict[str, float] = json.loads(stdout.readline() or "{}")
        if not told:
            raise SystemExit(f"a row ended early: {self._child.args!r}")
        return told

    def end(self) -> None:
        """Let the process end."""
        self._child.communicate()


def show(subject: str, folder: Path, rounds: int) -> None:
    """Run all rows in turns and print what they came to."""
    names = [LOOP, *ROWS]
    for name in names:  # exports to ONNX, and the first touch of each file
        warm = Row(subject, name, folder)
        warm.round()
        warm.end()
    rows = {name: Row(subject, name, folder) for name in names}
    told: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        # Backwards every other time, so that none always follows the same.
        for name in names if number % 2 else names[::-1]:
            told[name] = rows[name].round()
            rows[name].seconds.append(told[name]["seconds"])
    for row in rows.values():
        row.end()
    report(subject, rows, told)


def report(subject: str, rows: dict[str, Row], told: dict[str, dict[str, float]]) -> None:
    """Print the table of one subject."""
    base, exact = rows[LOOP].seconds, np.load(rows[LOOP].file)
    print(f"| {subject}, {len(exact)} clips | seconds | times the loop | error | peak MiB |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        ratios = [loop / own for loop, own in zip(base, row.seconds, strict=True)]
        spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        error = np.abs(np.load(row.file) - exact).max() / np.abs(exact).max()
        numbers = f"{np.median(row.seconds):.2f} | {spread} | {error:.1e}"
        print(f"| {name} | {numbers} | {told[name]['peak']:.0f} |", flush=True)


def serve(subject: str, row: str, folder: Path) -> None:
    """Encode all clips for each line on the standard input; the process of one row."""
    answers: IO[str] = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    encode = (looped if row == LOOP else extracted)(subject, row, folder)
    for number, _ in enumerate(sys.stdin):
        seconds, features = encode(number)
        np.save(folder / f"{row}.features.npy", features)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), file=answers, flush=True)


Timed = Callable[[int], tuple[float, Any]]
"""From the number of the round to its seconds and the features ``(clips, dim)``."""


def looped(subject: str, row: str, folder: Path) -> Timed:
    """Return the loop."""
    module = importlib.import_module(f"_{subject}")
    features = module.loop(folder / "checkpoint")
    samples = Manifest.read(folder / "manifest.csv", CLASSES).samples
    target = folder / row
    target.mkdir(exist_ok=True)

    def encode(_: int) -> tuple[float, Any]:
        began = perf_counter()
        for sample in samples:
            np.save(target / f"{sample.id}.npy", features(sample.media[module.COLUMN]))
        seconds = perf_counter() - began
        return seconds, np.stack([np.load(target / f"{sample.id}.npy") for sample in samples])

    return encode


def extracted(subject: str, row: str, folder: Path) -> Timed:
    """Return the extraction by mercore; its wall time leaves loading out."""

    def encode(number: int) -> tuple[float, Any]:
        project = Project.open(
            folder / f"{row}.yaml",
            folder / "manifest.csv",
            folder / f"{row}-{os.getpid()}-{number}.zarr",
            create=True,
            machine=Machine(device="cpu", parallel=1),
        )
        (outcome,) = project.extract()
        if outcome.failed:
            raise SystemExit(f"{row}: {outcome.failed}")
        data = read_dataset(project.pipeline, project.manifest.samples, project.store, ["own"])
        return outcome.seconds.wall - outcome.seconds.load, data.features["own"]

    return encode


if __name__ == "__main__":
    main()
