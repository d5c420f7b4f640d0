"""Which files a graph is made of. Nothing heavy is imported: this identifies weights too."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from mercore.errors import CheckpointError

USUAL = ("model.onnx", "onnx/model.onnx")
"""Where a folder or repository has its graph, unless it is told, best first."""
# Of a tensor outside the file: key 1 "location", then key 2, the name of the file beside it.
_LOCATION = b"\x0a\x08location\x12"


def graph_in(path: Path, file: str | None) -> Path:
    """Return the file of the graph: `path` itself, or what a folder has.

    Raises CheckpointError where there is none.
    """
    if path.is_file():
        return path
    for name in (file,) if file else USUAL:
        if (path / name).is_file():
            return path / name
    found = sorted(one.relative_to(path).as_posix() for one in path.rglob("*.onnx"))
    expected = repr(file) if file else " or ".join(map(repr, USUAL))
    raise CheckpointError(
        f"{str(path)!r} has no file {expected}; found {', '.join(found[:10]) or 'no .onnx'}; give "
        "option 'file'"
    )


def outside(graph: Path) -> list[Path]:
    """Return the files beside the graph that hold tensors of it, by name.

    Raises CheckpointError where one is missing, or lies elsewhere than below the graph's folder.
    """
    home = graph.parent
    files = [home / name for name in sorted(set(_locations(graph)))]
    strange = [file for file in files if not file.resolve().is_relative_to(home.resolve())]
    missing = [file.name for file in files if not file.is_file()]
    if strange:
        raise CheckpointError(
            f"{graph}: has weights in {', '.join(map(str, strange[:5]))}, outside of its folder, "
            "where they are not read"
        )
    if missing:
        raise CheckpointError(
            f"{graph}: its weights are in {len(missing)} files beside it that are missing: "
            f"{', '.join(missing[:5])}{' ...' if missing[5:] else ''}; fetch them too"
        )
    return files


def beside(path: Path, graph: Path, name: str) -> Path:
    """Return the file of that name below the checkpoint, or beside the graph.

    Raises CheckpointError where there is none.
    """
    for folder in (path, graph.parent):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{graph}: has no {name!r} beside it or in {str(path)!r}; put it there")


def _locations(graph: Path) -> Iterator[str]:
    """Yield the names in the file, which is searched but not parsed."""
    if not graph.stat().st_size:
        return
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as all_:
        place = all_.find(_LOCATION)
        while place >= 0:
            start = place + len(_LOCATION)
            length, shift = 0, 0
            while start < len(all_):  # a number of 7 bits a byte, the lowest first
                byte = all_[start]
                length |= (byte & 127) << shift
                start, shift = start + 1, shift + 7
                if byte < 128:
                    break
            yield all_[start : start + length].decode("utf-8", "replace")
            place = all_.find(_LOCATION, start)
