"""Damaged files of the store: found, named, dropped, and what was lost with them made anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mercore.errors import RegistryError, did_you_mean
from mercore.imported import Imported
from mercore.store import Damage
from mercore.target import header
from mercore.watch import showing

if TYPE_CHECKING:
    from mercore.extraction import Outcome
    from mercore.pipeline import Node
    from mercore.project import Project


@dataclass(frozen=True)
class Repair:
    """What was damaged, and what came of it."""

    damage: Sequence[Damage]
    extracted: Sequence[Outcome] = ()
    """Of the streams and features that had lost samples, and of what they read."""
    imported: Sequence[str] = ()
    """Imported features that had: they cannot be computed, only imported anew."""
    unknown: Sequence[str] = ()
    """Damaged collections that this registry does not describe, and cannot extract."""


def repair(project: Project, names: Iterable[str] = (), *, dry_run: bool = False) -> Repair:
    """Read every byte of the store; drop what is damaged, and extract that again.

    `names` limits it to these streams and features; empty means all that the store holds, also for
    other registries. With `dry_run` nothing is changed.
    """
    nodes = {folder: node for node in project.pipeline.nodes.values() for folder in _of(node)}
    headers = {folder: header(node, project.pipeline) for folder, node in nodes.items()}
    folders = {folder: headers.get(folder) for folder in _folders(project, list(names))}
    with showing(project.watch) as watch:
        damage = project.store.repair(folders, dry_run=dry_run, watch=watch)
    if dry_run:
        return Repair(damage)
    hit = dict.fromkeys(each.collection for each in damage if each.collection)
    known = {nodes[folder].name: nodes[folder] for folder in hit if folder in nodes}
    imported = {name for name, node in known.items() if isinstance(node.component, Imported)}
    again = [name for name in known if name not in imported]
    extracted = project.extract(again) if again else []
    lost = [name for name in imported if _lacks(project, known[name])]
    return Repair(damage, extracted, lost, [folder for folder in hit if folder not in nodes])


def _of(node: Node) -> list[str]:
    """Return the collections of a node, as the store calls them."""
    return [f"{group}/{node.name}@{node.fingerprint}" for group in node.groups]


def _folders(project: Project, names: Sequence[str]) -> list[str]:
    """Return the collections to look at; raises RegistryError for a name nobody knows."""
    found = project.store.folders()
    stored = {folder: re.split("[/@]", folder)[1] for folder in found}
    known = {*stored.values(), *project.pipeline.nodes}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise RegistryError(f"no stream or feature {name!r} in the registry or store{hint}")
    return [folder for folder in found if not names or stored[folder] in names]


def _lacks(project: Project, node: Node) -> bool:
    collections = [project.store.collection(g, node.name, node.fingerprint) for g in node.groups]
    return not all(c and set(project.ids) <= c.entries().keys() for c in collections)
