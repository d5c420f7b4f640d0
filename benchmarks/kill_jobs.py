"""What kill.py kills: a job, how it begins, and what there is after it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kill_child import run

from mercore.errors import RunError
from mercore.store import Row, Store

FOLDS, BRANCHES, PER_SEGMENT = 3, 20, 4
MINED_BRANCHES, ROUNDS = 6, 3
REGISTRY = f"""\
classes: [sad, happy]
streams:
  loud: {{uses: shout, inputs: {{text: text}}}}
features:
  letters: {{uses: letters, inputs: {{text: text}}, frames: true}}
  few: {{uses: letters, inputs: {{text: text}}, with: {{letters: 5}}}}
  shouted: {{uses: letters, inputs: {{text: loud}}}}
fusion: centroid
folds: {FOLDS}
ensemble: rank_mode
branches:
"""
Found = Mapping[str, object]
"""What there is, by name: samples of a store, or files and branches of a run folder."""


@dataclass(frozen=True)
class Job:
    """What is killed; each kill has a folder of its own."""

    prepare: Callable[[Path], object]
    commands: Callable[[Path], Sequence[Sequence[str]]]
    """The first is killed; then all are run to their end."""
    look: Callable[[Path], Found]
    workers: bool = False
    """Whether it has worker processes, each of which may be the one that is killed."""


def samples_in(folder: Path) -> Found:
    """Return what `samples_at` finds in the store of a folder."""
    return samples_at(folder / "mer.zarr")


def samples_at(path: str | Path) -> Found:
    """Return what is noted of each sample, and its values; a StoreError for a damaged file."""
    store = Store.find(path)
    for collection in store.collections() if store else ():
        collection.verify()
    return held(store) if store else {}


def undamaged_in(folder: Path) -> Found:
    """Return that of the samples in the store of a folder that are not damaged."""
    store = Store(folder / "mer.zarr")
    damage = store.repair(dict.fromkeys(store.folders()), dry_run=True)
    lost = {f"{each.collection} {id}" for each in damage for id in each.samples or ()}
    return {name: about for name, about in held(store).items() if name not in lost}


def held(store: Store) -> Found:
    """Return what is noted of each sample, and its values, damaged or not."""
    found: dict[str, object] = {}
    for collection in store.collections():
        for id, entry in collection.entries().items():
            rows = np.empty(0) if entry.failed else collection.sequence(id)
            found[f"{collection.identity.folder} {id}"] = (entry, rows.dtype, rows.tobytes())
    return found


def damage(store: Path) -> None:
    """Change a byte in the middle of the values of each collection."""
    for values in store.rglob("base/*/data/c.*"):
        content = bytearray(values.read_bytes())
        content[len(content) // 2] ^= 0xFF
        values.write_bytes(content)


def branches_in(folder: Path) -> Found:
    """Return all files, and what is noted of each branch, of any round, that is complete."""
    paths = [path for path in sorted(folder.rglob("[!.]*")) if path.is_file()]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    found: dict[str, object] = {}
    for key, content in files.items():
        branch = Path(key).parent
        if not key.endswith("branch.json"):
            found[key] = content
        elif about := json.loads(content):  # {} says that it is not complete
            folds = [f"{part}{n}.safetensors" for n in range(FOLDS) for part in ("fold", "mean")]
            parts = [str(branch / part) for part in ("probabilities.csv", *folds)]
            if not files.keys() >= set(parts):
                raise RunError(f"{folder / key}: complete without all of {parts}")
            found[str(branch)] = {**about, "seconds": 0}
    return found


def make_experiment(home: Path, samples: int, chance: random.Random) -> None:
    """Write a registry, and a manifest of made-up words."""
    rows = ["id,split,label,text"]
    for number in range(samples):
        words = ["".join(chance.choices("abcdefgh", k=8)) for _ in range(chance.randint(1, 12))]
        words += ["refuse"] * (number % 50 == 49)
        shown = ("train,sad", "train,happy", "test,", "test,")[number % 4]
        rows.append(f"s{number},{shown},{' '.join(words)}")
    (home / "manifest.csv").write_text("\n".join(rows) + "\n")
    fusion = "uses: centroid, with: {sharpness: %d}"
    branches = [f"  b{n}: {{features: letters + few, {fusion % (n + 1)}}}" for n in range(BRANCHES)]
    (home / "registry.yaml").write_text(REGISTRY + "\n".join(branches) + "\n")
    # Alike branches agree on everything: the cap leaves something to each round.
    cap = max(1, samples // 2 // 2 // (ROUNDS + 1))
    mining = f"mining: {{split: test, rounds: {ROUNDS}, agree: 2, cap: {cap}}}"
    mined = [*branches[:MINED_BRANCHES], mining]
    (home / "mining.yaml").write_text(REGISTRY + "\n".join(mined) + "\n")


def make_segments(path: Path, samples: int) -> None:
    """Write a base, and segments after it that replace some of it and add to it."""
    collection = Store(path).create("frames", "toy", "f", {})
    for start in range(0, samples, PER_SEGMENT):
        numbers = range(max(0, start - 1), start + PER_SEGMENT)
        rows = [(f"s{n}", np.full((1 + n % 20, 64), n - start, np.float32)) for n in numbers]
        collection.commit([Row(id, values) for id, values in rows])
        if start == samples // 2 // PER_SEGMENT * PER_SEGMENT:
            collection.compact()


def jobs(home: Path, samples: int) -> Mapping[str, Job]:
    """Return what is killed; `home` has the experiment, and gets the stores they begin with."""
    files = (f"--registry={home}/registry.yaml", f"--manifest={home}/manifest.csv")
    small = ("--device=cpu", "--parallel=2", "--batch=0.1")  # a few samples a commit
    extract = ("extract", *files, *small, "--store")
    run([*extract, f"{home}/mer.zarr"])
    make_segments(home / "segments", samples)
    run_of = (*files, f"--store={home}/mer.zarr", "--out")
    mine_of = (f"--registry={home}/mining.yaml", *run_of[1:])
    run(["train", "--device=cpu", *mine_of, f"{home}/trained"])
    return {
        "extraction": Job(Path.mkdir, lambda at: [[*extract, f"{at}/mer.zarr"]], samples_in),
        "workers": Job(
            Path.mkdir,
            # One feature: to start its workers takes longer than anything else.
            lambda at: [[*extract[:-1], "--devices=cpu:2", f"--store={at}/mer.zarr", "letters"]],
            samples_in,
            workers=True,
        ),
        "training": Job(
            Path.mkdir,
            lambda at: [
                ["train", "--device=cpu", *run_of, str(at)],
                ["ensemble", *run_of, str(at)],
            ],
            branches_in,
        ),
        "mining": Job(
            lambda at: shutil.copytree(home / "trained", at),
            lambda at: [
                ["mine", "--device=cpu", *mine_of, str(at)],
                ["ensemble", *mine_of, str(at)],
            ],
            branches_in,
        ),
        "compaction": Job(
            lambda at: shutil.copytree(home / "segments", at / "mer.zarr"),
            lambda at: [["compact", f"{at}/mer.zarr"]],
            samples_in,
        ),
        "repair": Job(
            lambda at: damage(shutil.copytree(home / "mer.zarr", at / "mer.zarr")),
            # What the first dropped and did not come to extract is missing, not damaged.
            lambda at: [
                ["repair", *files, *small, "--store", f"{at}/mer.zarr"],
                [*extract, f"{at}/mer.zarr"],
            ],
            undamaged_in,
        ),
    }
