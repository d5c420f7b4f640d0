"""Writes plugins that are installed as pip would note it."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint, PathDistribution
from pathlib import Path


def install(folder: Path, name: str, code: str | None, *about: str) -> EntryPoint:
    """Write a plugin with its dist-info, and `about` among its metadata; return its entry point.

    Without code there is no module.
    """
    module = name.replace("-", "_")
    if code is not None:
        (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.2", *about]
    (info / "METADATA").write_text("\n".join([*lines, ""]))
    (info / "entry_points.txt").write_text(f"[mercore]\n{module} = {module}\n")
    distribution: Distribution = PathDistribution(info)
    (found,) = distribution.entry_points
    return found
