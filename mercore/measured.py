"""How long work will take, from what the same work took before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mercore.fingerprints import describe
from mercore.folder import RunFolder
from mercore.pipeline import BranchNode, Node
from mercore.recipes import component_recipe, stored_recipe
from mercore.store import Collection, Store


@dataclass(frozen=True)
class Rate:
    """What the extraction of one collection took, over all the runs that did some of it."""

    samples: int
    load: float
    """Seconds until the component was ready, each time."""
    each: float
    """Seconds a sample, beside that."""
    source: str
    """Where it was measured."""


@dataclass(frozen=True)
class Estimate:
    """How long something will take."""

    seconds: float | None
    """None where nothing like it was measured."""
    source: str
    """What it is taken from."""


UNKNOWN = Estimate(None, "nothing like it was measured")
NOTHING = Estimate(0.0, "nothing to do")


def rate(collection: Collection) -> Rate | None:
    """Return what was measured when a collection was filled; None where nothing was."""
    notes = [note for note in collection.notes() if note.get("samples")]
    samples = sum(note["samples"] for note in notes)
    if not samples:
        return None
    load = sum(note["load"] for note in notes)
    rest = sum(note["wall"] for note in notes) - load
    name = f"{collection.name}@{collection.fingerprint}"
    source = f"{samples} samples of {name}"
    return Rate(samples, load / len(notes), rest / samples, source)


def extraction(node: Node, samples: int, store: Store) -> Estimate:
    """Return how long so many samples of a stream or feature will take.

    By its own rate, else by that of the collection that the same component filled with the most
    options in common.
    """
    if not samples:
        return NOTHING
    own = store.collection(node.groups[0], node.name, node.fingerprint)
    found = own and rate(own)
    if found:
        return _at(found, samples, found.source)
    alike = _alike(node, store)
    if alike is None:
        return UNKNOWN
    return _at(alike, samples, f"{alike.source}, other options or inputs")


def _at(found: Rate, samples: int, source: str) -> Estimate:
    return Estimate(found.load + samples * found.each, source)


def _alike(node: Node, store: Store) -> Rate | None:
    wanted = component_recipe(node.component)

    def likeness(collection: Collection) -> int:
        known = stored_recipe(collection.header)
        return sum(known.get(key) == value for key, value in wanted.items())

    same = [
        collection
        for collection in store.collections(node.groups[0])
        if _uses(collection) == node.component.name
    ]
    for collection in sorted(same, key=likeness, reverse=True):
        if found := rate(collection):
            return found
    return None


def _uses(collection: Collection) -> str:
    component = collection.header.get("component")
    return str(component.get("uses")) if isinstance(component, Mapping) else ""


def fitting(branch: BranchNode, folders: Sequence[RunFolder], number: int = 0) -> Estimate:
    """Return how long a branch takes to train, in a round of mining or in none.

    By what the branch itself took in the first of the folders where it was trained, else by what
    other branches there took by the same fusion.
    """
    for folder in folders:
        place = folder.round(number).path
        about = folder.round(number).trained(branch.name)
        if about and _fused(about) == branch.fusion.name:
            same = about["fusion"] == describe(branch.fusion)
            options = "" if same else ", with other options"
            return Estimate(about["seconds"], f"{place}, the branch itself{options}")
    for folder in folders:
        place = folder.round(number).path
        others = [about for about in _trained(folder.round(number)) if _like(about, branch)]
        if others:
            mean = sum(about["seconds"] for about in others) / len(others)
            return Estimate(mean, f"{place}, the mean of its branches")
    return fitting(branch, folders) if number else UNKNOWN


def _trained(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield what is noted of each branch of the folder, whatever the registry says."""
    yield from filter(None, map(folder.trained, folder.branches()))


def _like(about: Mapping[str, Any], branch: BranchNode) -> bool:
    return _fused(about) == branch.fusion.name


def _fused(about: Mapping[str, Any]) -> str:
    return str(about.get("fusion", {}).get("uses"))
