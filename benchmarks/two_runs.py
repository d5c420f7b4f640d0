"""How much work two extractions of one store at once do twice.

    python benchmarks/two_runs.py [--samples 400] [--batch 8] [--seconds 0.04] [--repeat 3]

Two `mer extract` of the same registry, manifest and store, as processes that begin together, or the
second once the first has done a third; in one process each, and with two workers each. The encoder
is that of the tests, which takes so many seconds a batch. `done` is how many samples the two have
committed together, the median of so many repetitions and the largest; all stores are compared with
that of one run alone. The exit status is 1 if one differs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mercore.store import Store

TOYS = str(Path(__file__).parent.parent / "tests" / "toys")
LETTERS = 100
MER = """
import sys
import mercore.project, mercore.extract, mercore.cli.show, mercore.cli.tables, zarr
from mercore.cli import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""
FIRST_THIRD = "when a third is done"
CASES = (("together", ""), (FIRST_THIRD, ""), ("together", "cpu:2"), (FIRST_THIRD, "cpu:2"))


def experiment(folder: Path, samples: int, seconds: float) -> None:
    """Write a registry and a manifest with texts of a length."""
    (folder / "registry.yaml").write_text(
        "classes: [sad, happy]\nfeatures:\n"
        f"  toy: {{uses: deadly, inputs: {{text: text}}, with: {{seconds: {seconds}}}}}\n"
    )
    rows = [f"s{number},train,sad,{number} {'a' * number}" for number in range(samples)]
    texts = [row[:LETTERS].ljust(LETTERS, "b") for row in rows]
    (folder / "manifest.csv").write_text("\n".join(["id,split,label,text", *texts]))


def start(folder: Path, store: str, batch: int, devices: str) -> subprocess.Popen[str]:
    """Return a `mer extract` that begins when it is sent a line."""
    scale = batch * LETTERS / 8192  # a batch of 1.0 holds so many letters
    command = [sys.executable, "-c", MER, "extract", f"--store={store}", f"--batch={scale}"]
    command += ["--device=cpu", *([f"--devices={devices}"] if devices else [])]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": TOYS},
    )
    assert process.stdout
    process.stdout.readline()  # it is ready
    return process


def begin(process: subprocess.Popen[str]) -> None:
    """Let it begin."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for the end of all."""
    for process in processes:
        process.communicate()
        if process.returncode:
            raise SystemExit(f"an extraction ended with status {process.returncode}")


def await_third(path: Path, samples: int) -> None:
    """Wait until a third of the samples is in the store."""
    while not path.exists() or len(contents(path)) < samples // 3:
        time.sleep(0.02)


def contents(path: Path) -> Mapping[str, object]:
    """Return all that is in the store of each sample."""
    found = {}
    for collection in Store(path).collections():
        for id, entry in collection.entries().items():
            found[id] = (entry, collection.sequence(id).tolist())
    return found


def done_by(path: Path) -> int:
    """Return how many samples all runs have committed."""
    notes = [note for collection in Store(path).collections() for note in collection.notes()]
    return sum(note["samples"] for note in notes)


def measure(folder: Path, name: str, given: argparse.Namespace, when: str, devices: str) -> int:
    """Return how many samples two runs have committed."""
    running = [start(folder, name, given.batch, devices) for _ in range(2)]
    begin(running[0])
    if when == FIRST_THIRD:
        await_third(folder / name, given.samples)
    begin(running[1])
    finish(running)
    return done_by(folder / name)


def benchmark() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description="Two extractions at once.")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8, help="samples")
    parser.add_argument("--seconds", type=float, default=0.04, help="of each batch")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        experiment(folder, given.samples, given.seconds)
        alone = start(folder, "alone", given.batch, "")
        begin(alone)
        finish([alone])
        expected = contents(folder / "alone")
        print(
            "| the second begins | workers | samples | done, median | largest |\n"
            + "|---" * 5
            + "|"
        )
        for case, (when, devices) in enumerate(CASES):
            names = [f"{case}-{number}" for number in range(given.repeat)]
            done = [measure(folder, name, given, when, devices) for name in names]
            wrong += sum(contents(folder / name) != expected for name in names)
            ratios = [
                f"{each(done)} ({each(done) / given.samples:.3f})"
                for each in (statistics.median, max)
            ]
            print(
                f"| {when} | {devices or 1} | {given.samples} | " + " | ".join(ratios) + " |",
                flush=True,
            )
    print(f"{wrong} stores differ from that of one run alone")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    benchmark()
