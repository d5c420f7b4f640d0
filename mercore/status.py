"""What the store holds for a pipeline and a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from mercore.components import Encoder
from mercore.manifest import Manifest
from mercore.pipeline import Node, Pipeline
from mercore.results import FeatureResult
from mercore.store import Collection, Store
from mercore.target import failures, groups


def feature_results(pipeline: Pipeline, manifest: Manifest, store: Store) -> list[FeatureResult]:
    """Return one result for each stream and feature of the pipeline, streams first."""
    return [_result(node, manifest, store) for node in pipeline.nodes.values()]


def _result(node: Node, manifest: Manifest, store: Store) -> FeatureResult:
    collection = store.collection(groups(node)[0], node.name, node.fingerprint)
    entries = collection.entries() if collection else {}
    found = {sample.id: entries[sample.id] for sample in manifest.samples if sample.id in entries}
    notes = collection.notes() if collection else []
    return FeatureResult(
        name=node.name,
        uses=node.component.name,
        kind=node.kind,
        fingerprint=node.fingerprint,
        dim=_dim(node, collection),
        samples=len(found),
        failed=tuple(failures(found).items()),
        seconds=_total(notes, "wall"),
        decode=_total(notes, "decode"),
        encode=_total(notes, "encode"),
        write=_total(notes, "write"),
        records=_warnings(entry.record for entry in found.values()),
    )


def _dim(node: Node, collection: Collection | None) -> int | None:
    if not isinstance(node.component, Encoder):
        return None
    declared = node.component.dim
    return declared or (collection.dim if collection else None)


def _total(notes: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(sum(note.get(key, 0.0) for note in notes))


def _warnings(records: Iterable[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    counts = Counter(str(record["warning"]) for record in records if "warning" in record)
    return dict(counts)


def superseded(pipeline: Pipeline, store: Store) -> list[Collection]:
    """Return the collections that the pipeline does not use: what ``mer prune`` deletes."""
    current = {
        (group, node.name, node.fingerprint)
        for node in pipeline.nodes.values()
        for group in groups(node)
    }
    return [
        collection
        for collection in store.collections()
        if (collection.group, collection.name, collection.fingerprint) not in current
    ]
