"""Extraction with mercore against the loop that MERTools runs: one clip at a time, one .npy each.

    python benchmarks/encoders.py [--clips 16] [--rounds 3] [--model hubert vit]

HuBERT-base reads sound of 1 to 8 s, ViT-B frames of clips of as many; both are of real size with
random weights, written in the published layout. The loop is torch in float32; what mercore runs
in its place are rows. Each run is a process of its own, which prints the seconds of its work
without loading; rounds are interleaved, and ratios are medians of the rounds' ratios. The error is
the largest difference of the clips' pooled features from the loop's, as a share of the largest
value. All use the same number of threads (OMP_NUM_THREADS, or the machine's cores).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from _encoder_models import MODELS, Model
from numpy.typing import NDArray

from mercore.machine import Machine, cores
from mercore.project import Project
from mercore.store import Store

CLASSES = "classes: [happy, sad]\nfeatures:\n"


@dataclass(frozen=True)
class Row:
    """One way to extract with mercore."""

    name: str
    target: float
    """How many times the loop's speed is aimed at."""
    options: str = ""
    """What stands under ``with:`` beside the checkpoint."""
    dtype: str = "float32"


ROWS = (
    Row("torch float32", 1.05),
    Row("onnx float32", 1.5, "backend: onnx"),
    Row("torch bfloat16", 1.9, dtype="bfloat16"),
    Row("onnx int8", 2.4, "backend: onnx, int8: true"),
)


def main() -> None:
    """Print a table a model, or be one run of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", nargs="*", choices=MODELS, default=[*MODELS])
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)  # model, row or loop, folder
    options = parser.parse_args()
    if options.run:
        model, what, folder = options.run
        print(json.dumps(run(MODELS[model], what, Path(folder))))
        return
    for name in options.model:
        with TemporaryDirectory() as folder:
            MODELS[name].prepare(Path(folder), options.clips)
            table(name, Path(folder), options.rounds)


def table(name: str, folder: Path, rounds: int) -> None:
    """Run the loop and each row in turns, and print what came of it."""
    names = ["loop", *(row.name for row in ROWS)]
    for row in ROWS[1::2]:
        child(name, row.name, folder)  # exports, once
    runs = [{what: child(name, what, folder) for what in names} for _ in range(rounds)]
    expected = vectors(folder, "loop")
    print(f"\n{name}: {len(expected)} clips, {runs[0]['loop']['amount']}, {cores()} threads")
    print("| | s | times the loop | target | error | peak MiB |\n|---|---|---|---|---|---|")
    for what in names:
        seconds = statistics.median(each[what]["seconds"] for each in runs)
        ratio = statistics.median(each["loop"]["seconds"] / each[what]["seconds"] for each in runs)
        target = next((f"{row.target:g}" for row in ROWS if row.name == what), "")
        error = np.abs(vectors(folder, what) - expected).max() / np.abs(expected).max()
        peak = max(each[what]["peak"] for each in runs)
        print(f"| {what} | {seconds:.2f} | {ratio:.2f} | {target} | {error:.1e} | {peak:.0f} |")


def child(model: str, what: str, folder: Path) -> dict[str, Any]:
    """Return what one run in a process of its own says."""
    command = [sys.executable, __file__, "--run", model, what, str(folder)]
    environment = os.environ | {
        "MERCORE_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": str(cores()),
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(model: Model, what: str, folder: Path) -> dict[str, Any]:
    """Return the seconds of one run, and the most memory its process held."""
    clips = sorted((folder / "clips").iterdir())
    torch.set_num_threads(cores())
    if what == "loop":
        seconds = loop(model, clips, folder)
    else:
        seconds = extraction(model, next(row for row in ROWS if row.name == what), clips, folder)
    peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak, "amount": (folder / "amount").read_text()}


def loop(model: Model, clips: Sequence[Path], folder: Path) -> float:
    """Extract as MERTools does: decode, encode, save, then the next clip."""
    encode = model.loop(folder / "checkpoint")
    out = folder / "loop"
    out.mkdir(exist_ok=True)
    encode(clips[0])  # warm
    began = time.perf_counter()
    for clip in clips:
        np.save(out / f"{clip.stem}.npy", encode(clip).mean(axis=0))
    return time.perf_counter() - began


def extraction(model: Model, row: Row, clips: Sequence[Path], folder: Path) -> float:
    """Extract with mercore into a new store; return its wall time without loading."""
    place = folder / row.name
    with TemporaryDirectory(dir=folder) as new:
        options = ", ".join(filter(None, [f"checkpoint: {folder}/checkpoint", model.options,
                                          row.options]))  # fmt: skip
        use = f"uses: {model.uses}, inputs: {model.inputs}, dtype: {row.dtype}"
        registry, manifest = Path(new, "registry.yaml"), Path(new, "manifest.csv")
        registry.write_text(f"{CLASSES}  it: {{{use}, with: {{{options}}}}}\n")
        rows = [f"{clip.stem},unlabelled,{clip}" for clip in clips]
        manifest.write_text("\n".join([f"id,split,{model.medium}", *rows, ""]))
        project = Project.open(registry, manifest, Path(new, "mer.zarr"), create=True)
        (outcome,) = replace(project, machine=Machine(device="cpu", parallel=1)).extract()
        assert not outcome.failed, outcome.failed
        store = Store(Path(new, "mer.zarr"))
        place.mkdir(exist_ok=True)
        for clip in clips:
            np.save(place / f"{clip.stem}.npy", store["it"].matrix([clip.stem])[0])
    return outcome.seconds.wall - outcome.seconds.load


def vectors(folder: Path, what: str) -> NDArray[np.float32]:
    """Return the pooled features of all clips."""
    return np.stack([np.load(path) for path in sorted((folder / what).glob("*.npy"))])


if __name__ == "__main__":
    main()
