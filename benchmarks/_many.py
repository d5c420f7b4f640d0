"""A project of many clips: those of the demo set under as many ids as are asked for."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from mercore.manifest import Manifest
from mercore.project import Project

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def project(folder: Path, count: int, features: str, videos: list[Path] | None = None) -> Project:
    """Return a project of `count` clips in `folder`; `features` are lines of registry.yaml."""
    demo = Manifest.read("examples/demo/manifest.csv", CLASSES).samples
    files = videos or [Path(sample.media["video"]) for sample in demo]
    rows = ["id,split,video"]
    clips = folder / "clips"
    clips.mkdir()
    for number, file in enumerate(islice(cycle(files), count)):
        link = clips / f"{number:05d}{file.suffix}"
        link.symlink_to(file.absolute())
        rows.append(f"{link.stem},unlabelled,clips/{link.name}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "registry.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n{features}")
    return Project.open(
        folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr", create=True
    )
