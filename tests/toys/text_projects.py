"""Projects of texts to extract, and what came of it."""

from __future__ import annotations

from pathlib import Path

from mercore.machine import Machine
from mercore.project import Project
from mercore.store import Collection, Entry, Store

TWO = Machine(device="cpu", devices="cpu:2", batch=0.01)


def registry(features: str, streams: str = "") -> str:
    return f"classes: [sad, happy]\nstreams: {{{streams}}}\nfeatures: {{{features}}}\n"


def project(
    folder: Path, features: str, texts: dict[str, str], machine: Machine = TWO, streams: str = ""
) -> Project:
    """Return a project of texts."""
    folder.mkdir(exist_ok=True)
    (folder / "registry.yaml").write_text(registry(features, streams))
    rows = [f"{name},unlabelled,{text}" for name, text in texts.items()]
    (folder / "manifest.csv").write_text("\n".join(["id,split,text", *rows, ""]))
    return Project.open(
        folder / "registry.yaml",
        folder / "manifest.csv",
        folder / "mer.zarr",
        create=True,
        machine=machine,
    )


def words(count: int) -> dict[str, str]:
    """Return texts of no like length, so that batches of a hundredth hold a few."""
    return {f"s{n}": "abc " * (1 + n % 9) + "z" * (n % 26) for n in range(count)}


def stored(store: Store) -> dict[str, tuple[Entry, str | tuple[str, tuple[int, ...], bytes]]]:
    """Return the entry of each sample of each collection, with its reason or its very bytes."""
    return {
        f"{collection.identity.folder} {id}": (entry, entry.failed or exact(collection, id))
        for collection in store.collections()
        for id, entry in collection.entries().items()
    }


def exact(collection: Collection, id: str) -> tuple[str, tuple[int, ...], bytes]:
    array = collection.sequence(id)
    return str(array.dtype), array.shape, array.tobytes()
