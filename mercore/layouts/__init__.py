"""How data sets keep their clips and labels: recognised by their files, and read.

::

    layout = choose(Path("MELD.Raw"))
    found = layout.read(Wanted(Path("MELD.Raw")))

Each layout is a module of its own that names its sources. None of them opens a clip.
"""

from collections.abc import Mapping
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean
from mercore.layouts._found import Found, Layout, Wanted
from mercore.layouts._iemocap import IEMOCAP
from mercore.layouts._meld import MELD
from mercore.layouts._mer import MER2023, MER2024, MER2025
from mercore.layouts._mmsa import CH_SIMS, MOSEI, MOSI
from mercore.layouts._plain import PLAIN

__all__ = ["LAYOUTS", "Found", "Layout", "Wanted", "choose"]

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (PLAIN, MER2023, MER2024, MER2025, MOSI, MOSEI, CH_SIMS, IEMOCAP, MELD)
}


def choose(folder: Path, name: str = "auto") -> Layout:
    """Return the layout of that name, or the one that the folder looks like; else ``plain``.

    Raises ManifestError where there is no such layout, or the folder looks like several.
    """
    if not folder.is_dir():
        what = "is a file; give the folder of the clips" if folder.exists() else "no such folder"
        raise ManifestError(f"{folder}: {what}")
    if name != "auto":
        if name not in LAYOUTS:
            hint = did_you_mean(name, LAYOUTS) or f"; there are {', '.join(LAYOUTS)}"
            raise ManifestError(f"no layout is called {name!r}{hint}")
        return LAYOUTS[name]
    fitting = _fitting(folder)
    if len(fitting) > 1:
        names = " or ".join(f"--format {layout.name}" for layout in fitting)
        raise ManifestError(f"{folder} looks like several layouts; say which: {names}")
    if fitting:
        return fitting[0]
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inner := _fitting(below):
            raise ManifestError(
                f"{below} looks like {inner[0].name}; give that folder, or --format plain"
            )
    return PLAIN


def _fitting(folder: Path) -> list[Layout]:
    return [layout for layout in LAYOUTS.values() if layout is not PLAIN and layout.fits(folder)]
