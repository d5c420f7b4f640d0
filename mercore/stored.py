"""A collection of the store as seen from a manifest: which samples it lacks, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mercore.errors import RunError, few
from mercore.pipeline import Node
from mercore.selection import Selection
from mercore.store import Collection, Store

NOT_EXTRACTED = "not extracted yet"


@dataclass(frozen=True, eq=False)
class Stored:
    """A collection, and why samples of a manifest have no values in it.

    It is as it was when it was asked for: what is extracted later is not seen.
    """

    what: str
    """``feature 'hubert'``, for messages."""
    name: str
    collection: Collection
    lacking: Mapping[str, str]
    """Id to reason, of failed samples, of those without such a medium, of those to extract."""
    absent: frozenset[str]
    """Those of them whose row gives no such medium, which is no failure."""

    @classmethod
    def of(cls, node: Node, group: str, store: Store, samples: Selection) -> Stored:
        """Return what is stored of a node; raises RunError where that is nothing at all."""
        what = f"{node.kind} {node.name!r}"
        collection = store.collection(group, node.name, node.fingerprint)
        if collection is None:
            cure = f"run project.extract([{node.name!r}]), or `mer extract {node.name}`"
            raise RunError(f"{what} is not extracted yet; {cure}")
        entries = collection.entries()
        known, noted = entries.keys(), entries.noted()
        mine = {id: noted[id] for id in samples.ids if id in noted}
        unknown = {id: NOT_EXTRACTED for id in samples.ids if id not in known}
        failed = {id: entry.failed for id, entry in mine.items() if entry.failed is not None}
        absent = frozenset(id for id in failed if mine[id].record.get("absent"))
        return cls(what, node.name, collection, unknown | failed, absent)

    def missing(self, samples: Selection) -> dict[str, str]:
        """Return id to reason for those of the samples that have no values, in their order."""
        if not self.lacking:
            return {}
        return {id: self.lacking[id] for id in samples.ids if id in self.lacking}

    def require(self, ids: Sequence[str], cure: str = "") -> None:
        """Raise RunError where any of the samples has no values, with the reasons."""
        lost = {id: self.lacking[id] for id in ids if id in self.lacking}
        if not lost:
            return
        steps = [cure] if cure else []
        if NOT_EXTRACTED in lost.values():
            steps.insert(0, f"run project.extract([{self.name!r}]), or `mer extract {self.name}`")
        found = few([f"{id!r} ({why})" for id, why in lost.items()])
        step = f"; {', or '.join(steps)}" if steps else ""
        raise RunError(
            f"{self.what} has no values for {len(lost)} of {len(ids)} samples: {found}{step}"
        )
