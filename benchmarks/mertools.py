"""How long feature folders of MERTools take to import, read and export, against a loop of np.load.

    python benchmarks/mertools.py [--samples 5030] [--repeat 3]

Three folders, dims 1024, 5120 and 768, one float32 `.npy` a sample: the labelled set of MER2024.
The files are in the page cache. Every figure but the first is a median with its ratio to that of
the loop, which is timed anew before each. Bytes read back are compared with those of the files.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import numpy as np

from mercore.mertools import CLASSES, Destination, export_mertools, import_mertools, read_labels
from mercore.project import Project

DIMS = {"chinese-hubert-large": 1024, "Baichuan-13B-Base": 5120, "clip-vit-large-patch14": 768}
UNLABELLED = 115_595


def main() -> None:
    """Print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5030)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        names = written(folder, options.samples)
        steps: dict[str, Callable[[], object]] = {
            "mer import, a process": lambda: command(folder),
            "import_mertools": lambda: taken(folder),
            "import, all done before": lambda: taken(folder, anew=False),
            "read from the store": lambda: matrices(folder, names),
            "export_mertools": lambda: given(folder),
        }
        for step, action in steps.items():
            report(folder, step, action, options.repeat)
        compare(folder, names)
        began = time.perf_counter()
        read_labels(folder / "many.npz", trust_pickles=True)
        print(f"labels of {UNLABELLED:,} samples out of an npz {time.perf_counter() - began:.2f} s")


def written(folder: Path, samples: int) -> list[str]:
    """Write the folders and the labels; return the names of the samples."""
    random = np.random.default_rng(0)
    names = [f"sample_{number:08}" for number in range(samples)]
    for feature, dim in DIMS.items():
        path = folder / "features" / f"{feature}-UTT"
        path.mkdir(parents=True)
        for name in names:
            np.save(path / f"{name}.npy", random.standard_normal(dim, np.float32))
    labels = {name: {"emo": CLASSES[n % 6], "val": -10} for n, name in enumerate(names)}
    np.savez_compressed(folder / "label-6way.npz", train_corpus=labels)  # type: ignore[arg-type]
    many = {f"sample_{n:08}": {"emo": "", "val": -10} for n in range(UNLABELLED)}
    np.savez_compressed(folder / "many.npz", test3_corpus=many)  # type: ignore[arg-type]
    return names


def loop(folder: Path) -> None:
    """Read all files as a user would."""
    for path in sorted((folder / "features").rglob("*.npy")):
        np.load(path)


def command(folder: Path) -> None:
    """Run `mer import mertools` into a new store."""
    rmtree(folder / "mer.zarr", ignore_errors=True)
    mer = Path(sys.executable).with_name("mer")
    files = ["features", "--labels", "label-6way.npz", "--trust-pickles", "--overwrite"]
    subprocess.run(
        [mer, "import", "mertools", *files], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )


def taken(folder: Path, *, anew: bool = True) -> None:
    """Import into a new store, or into one that has it all."""
    if anew:
        rmtree(folder / "mer.zarr", ignore_errors=True)
    files = (folder / "manifest.csv", folder / "registry.yaml", folder / "mer.zarr")
    import_mertools(
        [folder / "features"],
        folder / "label-6way.npz",
        to=Destination(*files, overwrite=True),
        trust_pickles=True,
    )


def opened(folder: Path) -> Project:
    """Return the project that was imported."""
    return Project.open(folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr")


def matrices(folder: Path, names: list[str]) -> None:
    """Read all vectors from the store."""
    store = opened(folder).store
    for feature in store:
        store[feature].matrix(names)


def given(folder: Path) -> None:
    """Export all features."""
    rmtree(folder / "out", ignore_errors=True)
    export_mertools(opened(folder), folder / "out")


def report(folder: Path, step: str, action: Callable[[], object], repeat: int) -> None:
    """Print the median of a step, and how often the loop would fit into it."""
    pairs = [(timed(lambda: loop(folder)), timed(action)) for _ in range(repeat)]
    base, own = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{step:26s} {own:6.2f} s, np.load {base:5.2f} s, ratio {own / base:.2f}", flush=True)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def compare(folder: Path, names: list[str]) -> None:
    """Compare what was exported with what was imported, byte for byte."""
    for feature in DIMS:
        path = Path("features", f"{feature}-UTT")
        for name in names:
            before, after = (
                (root / path / f"{name}.npy").read_bytes() for root in (folder, folder / "out")
            )
            assert before == after, f"{path / name} differs"
    print(f"all {len(names) * len(DIMS):,} exported files are those that were imported")


if __name__ == "__main__":
    main()
