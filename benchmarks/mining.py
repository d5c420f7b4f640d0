"""Data mining at the size of MER2024: time and memory.

    python benchmarks/mining.py [--epochs 10] [--batch 128] [--warm 2] [--unlabelled 115595]

5,030 labelled and 115,595 unlabelled samples with synthetic features of the real dimensions, four
branches (the paper's atv, avj, tvj, and all), five rounds of `mer mine` from a store on disk. Each
feature tells the class of a third of the samples, so that branches agree on some and not on
others. `--warm N` goes on for N epochs in each round; 0 begins anew, with `--epochs` epochs.

Says how long each round took, what it accepted, and the most memory that was in use.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from mercore.machine import Machine
from mercore.project import Project
from mercore.rounds import mined
from mercore.store import Row

DIMS = {"hubert": 1024, "baichuan": 5120, "vit": 768, "jat": 4096}
DIGEST = "f" * 16  # nothing looks at it here
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
LABELLED, TEST, UNLABELLED = 5030, 1169, 115_595

REGISTRY = """\
classes: [{classes}]
features:
{features}
fusion: {{uses: attention, with: {{epochs: {epochs}, batch: {batch}}}}}
branches:
  atv: hubert + baichuan + vit
  avj: hubert + vit + jat
  tvj: baichuan + vit + jat
  all: hubert + baichuan + vit + jat
mining: {{rounds: 5, agree: 3{warm}}}
"""


def write_files(
    folder: Path, args: argparse.Namespace
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Write registry and manifest; return the true class of every sample."""
    lines = [
        f"  {name}: {{uses: imported, with: {{source: {name}, digest: {DIGEST}, width: {dim}}}}}"
        for name, dim in DIMS.items()
    ]
    text = REGISTRY.format(
        classes=", ".join(CLASSES),
        features="\n".join(lines),
        epochs=args.epochs,
        batch=args.batch,
        warm=f", warm: {args.warm}" if args.warm else "",
    )
    (folder / "registry.yaml").write_text(text)
    splits = ["train"] * LABELLED + ["test"] * TEST + ["unlabelled"] * args.unlabelled
    labels = np.random.default_rng(0).integers(0, len(CLASSES), len(splits))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "text"])
        for number, (split, label) in enumerate(zip(splits, labels.tolist(), strict=True)):
            writer.writerow([f"s{number:06d}", split, CLASSES[label], ""])
    return labels


def write_store(project: Project, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """Write the features, as an import of them would."""
    ids = list(project.ids)
    for number, (name, dim) in enumerate(DIMS.items()):
        random = np.random.default_rng(number + 1)
        centres = random.standard_normal((len(CLASSES), dim), np.float32)
        node = project.pipeline.features[name]
        collection = project.store.create("features", name, node.fingerprint, {})
        for start in range(0, len(ids), 4096):
            rows = slice(start, start + 4096)
            told = random.random(len(labels[rows])) < 0.35
            x = random.standard_normal((len(told), dim), np.float32)
            x += np.float32(4 / dim**0.5) * centres[labels[rows]] * told[:, None]
            collection.commit([Row(i, v[None]) for i, v in zip(ids[rows], x, strict=True)])
        collection.compact()


def main() -> None:
    """Print a row a round."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--unlabelled", type=int, default=UNLABELLED)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = write_files(folder, args)
        project = Project.open(
            folder / "registry.yaml",
            folder / "manifest.csv",
            folder / "mer.zarr",
            out=folder / "run",
            create=True,
            machine=Machine(device="cpu"),
        )
        began = time.perf_counter()
        write_store(project, labels)
        print(f"store written in {time.perf_counter() - began:.0f} s", flush=True)
        began, cpu = time.perf_counter(), sum(os.times()[:2])
        rounds = project.mine()
        wall, cpu = time.perf_counter() - began, sum(os.times()[:2]) - cpu
        for row, found in zip(mined(project, rounds), rounds, strict=True):
            seconds = sum(result.seconds for result in found.results)
            accepted = sum(row["accepted"].values())  # type: ignore[union-attr, arg-type]
            print(
                f"round {row['round']}: accepted {accepted}, right {row['right']}, test WAF "
                f"{row['waf']['test']:.4f}, {seconds:.0f} s"  # type: ignore[index, call-overload]
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{wall:.0f} s of wall time, {cpu:.0f} CPU s, at most {peak:.1f} GiB of memory")


if __name__ == "__main__":
    main()
