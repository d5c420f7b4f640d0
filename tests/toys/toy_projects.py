"""A small project of texts, whose features are counted letters."""

from __future__ import annotations

from pathlib import Path

from toy_clips import write_wav

import mercore
from mercore import Project

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}, frames: true}
  all: {uses: letters, inputs: {text: text}}
fusion: centroid
branches:
  one: few
  both: few + all
ensemble: mean_probability
folds: 2
"""


def write_texts(folder: Path) -> None:
    """Write a manifest of 36 texts, 18 of them to train: sad ones say `a`, happy ones `b`."""
    rows = ["id,split,label,text"]
    for number in range(36):
        label, letter = (("sad", "a"), ("happy", "b"))[number % 2]
        split = "train" if number < 18 else "test1" if number < 30 else "unlabelled"
        shown = "" if split == "unlabelled" else label
        rows.append(f"s{number},{split},{shown},{letter * (1 + number % 3)} c")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def write_project(folder: Path, *, gaps: bool = False) -> None:
    """Write registry and manifest: sad samples say `a`, happy ones `b`.

    With gaps there are two more: `refused` fails, and `silent` has no words.
    """
    (folder / "registry.yaml").write_text(REGISTRY)
    rows = ["id,split,label,text,audio"]
    for number in range(12):
        label, letter = (("sad", "a"), ("happy", "b"))[number % 2]
        split = "train" if number < 8 else "test" if number < 11 else "unlabelled"
        shown = "" if split == "unlabelled" else label
        rows.append(f"s{number},{split},{shown},{letter * (1 + number % 3)} c,")
    if gaps:
        write_wav(folder / "sound.wav")
        rows[2:2] = ["refused,train,sad,refuse this,", "silent,train,happy,,sound.wav"]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def opened(folder: Path, *, gaps: bool = False) -> Project:
    """Return the project, its features extracted."""
    write_project(folder, gaps=gaps)
    project = mercore.open(
        folder / "registry.yaml",
        manifest=folder / "manifest.csv",
        store=folder / "mer.zarr",
        out=folder / "run",
        device="cpu",
    )
    project.extract([*project.features, *project.streams])
    return project
