"""How long `mer status` takes at the size of MER2024's unlabelled set.

    python benchmarks/status.py [--repeat 5]

115,595 rows with their words in the manifest and one feature of all of them, committed 32 at a time
(3,613 segments), then compacted. Prints medians: fresh processes, and inside one the parts of it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mercore.manifest import Manifest
from mercore.project import Project
from mercore.status import feature_results
from mercore.store import Collection, Row, Store
from mercore.target import Target

SAMPLES = 115_595
BATCH = 32
REGISTRY = """\
classes: [sad, happy]
features:
  words: {uses: minilm, inputs: {text: text}}
"""


def main() -> None:
    """Print the times for segments and for a base."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with TemporaryDirectory() as name:
        folder = Path(name)
        collection = filled(folder)
        report(folder, f"{-(-SAMPLES // BATCH):,} segments", repeat)
        collection.compact()
        report(folder, "compacted", repeat)


def filled(folder: Path) -> Collection:
    """Return the collection of the feature, with a row for each sample."""
    rows = "".join(f"clip{n:06d},unlabelled,What is said in {n}.\n" for n in range(SAMPLES))
    (folder / "manifest.csv").write_text("id,split,text\n" + rows)
    (folder / "registry.yaml").write_text(REGISTRY)
    project = opened(folder, create=True)
    node = project.pipeline.features["words"]
    Target(node, project.pipeline, project.store)  # makes the collection
    collection = project.store.collection("features", node.name, node.fingerprint)
    assert collection is not None
    values = np.zeros((1, 384), np.float32)
    ids = iter(project.ids)
    while batch := list(islice(ids, BATCH)):
        collection.commit([Row(id, values, f"words:{id}") for id in batch])
    return collection


def opened(folder: Path, *, create: bool = False) -> Project:
    """Return the project in the folder."""
    return Project.open(
        folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr", create=create
    )


def report(folder: Path, what: str, repeat: int) -> None:
    """Print one line a part."""
    project = opened(folder)
    parts: dict[str, Callable[[], object]] = {
        "mer status, a process": lambda: command(folder),
        "of it: the manifest": lambda: Manifest.read(folder / "manifest.csv", ("sad", "happy")),
        "of it: what is done": lambda: feature_results(
            project.pipeline, project.manifest, Store(folder / "mer.zarr")
        ),
    }
    for name, part in parts.items():
        print(f"{what:16s} {name:24s} {median(part, repeat):.3f} s", flush=True)


def command(folder: Path) -> None:
    """Run `mer status`."""
    subprocess.run(
        [Path(sys.executable).with_name("mer"), "status"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def median(action: Callable[[], object], repeat: int) -> float:
    """Return the median of the seconds an action takes."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
