"""How fast the store fills, and who fills it: seen from outside, look by look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mercore.manifest import Manifest
from mercore.pipeline import Node, Pipeline
from mercore.status import failures, found
from mercore.store import Collection, Store, writer_of


@dataclass(frozen=True)
class Standing:
    """How far one stream or feature is."""

    name: str
    kind: str
    """``"feature"`` or ``"stream"``."""
    samples: int
    """Of the manifest."""
    done: int
    """Those of them that are stored, failed ones included."""
    failed: int
    writers: Mapping[str, float]
    """Samples a second since the look before, by the id of each writer that committed any.

    Every process has one a stream or feature, drawn at random when it begins.
    """

    @property
    def rate(self) -> float:
        """Samples a second since the look before, of all writers; 0 at the first look."""
        return sum(self.writers.values())

    @property
    def remaining(self) -> int:
        """Samples that are not stored yet."""
        return self.samples - self.done

    @property
    def seconds(self) -> float | None:
        """How long the rest takes at this rate; None where nothing goes on."""
        return self.remaining / self.rate if self.rate else None


class Observer:
    """Looks at the store again and again.

    Of what was seen before nothing is read again: a look takes a few listings for each stream and
    feature, and what was committed since.
    """

    def __init__(self, pipeline: Pipeline, manifest: Manifest, store: Store) -> None:
        self._nodes = tuple(pipeline.nodes.values())
        self._manifest = manifest
        self._store = store
        self._collections: dict[str, Collection] = {}
        self._commits: dict[str, Mapping[str, str]] = {}
        self._looked: float | None = None

    def look(self) -> list[Standing]:
        """Return how far each stream and feature is now, streams first."""
        now = time.monotonic()
        passed = None if self._looked is None else now - self._looked
        self._looked = now
        return [self._standing(node, passed) for node in self._nodes]

    def _standing(self, node: Node, passed: float | None) -> Standing:
        collection = self._collection(node)
        entries = collection.entries() if collection else None
        count, noted = found(entries, self._manifest.ids)
        before = self._commits.get(node.name, {})
        commits = entries.commits() if entries else {}
        self._commits[node.name] = commits
        new = (
            key for id in self._manifest.ids if (key := commits.get(id)) and key != before.get(id)
        )
        return Standing(
            name=node.name,
            kind=node.kind,
            samples=len(self._manifest.ids),
            done=count,
            failed=len(failures(noted)),
            writers=_rates(new, passed) if passed else {},
        )

    def _collection(self, node: Node) -> Collection | None:
        """Return the collection of a node, looked for again as long as there is none."""
        if node.name not in self._collections:
            collection = self._store.collection(node.groups[0], node.name, node.fingerprint)
            if collection is None:
                return None
            self._collections[node.name] = collection
        return self._collections[node.name]


def _rates(keys: Iterable[str], seconds: float) -> dict[str, float]:
    """Return how many samples a second each writer committed, the fastest first."""
    counts = Counter(writer_of(key) for key in keys)
    return {writer: count / seconds for writer, count in counts.most_common()}
