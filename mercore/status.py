"""What the store holds for a pipeline and a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from mercore.components import Encoder, Preprocessor
from mercore.errors import RegistryError, RunError, did_you_mean
from mercore.manifest import Manifest
from mercore.media import Words
from mercore.pipeline import Node, Pipeline
from mercore.results import FASTER, FeatureResult
from mercore.store import Collection, Entries, Entry, Store


def feature_results(pipeline: Pipeline, manifest: Manifest, store: Store) -> list[FeatureResult]:
    """Return one result for each stream and feature of the pipeline, streams first."""
    return [_result(node, manifest, store) for node in pipeline.nodes.values()]


def _result(node: Node, manifest: Manifest, store: Store) -> FeatureResult:
    collection = store.collection(node.groups[0], node.name, node.fingerprint)
    count, noted = found(collection.entries() if collection else None, manifest.ids)
    notes = collection.notes() if collection else []
    return FeatureResult(
        name=node.name,
        uses=node.component.name,
        kind=node.kind,
        fingerprint=node.fingerprint,
        dim=_dim(node, collection),
        samples=count,
        failed=tuple(failures(noted).items()),
        seconds=_total(notes, "wall"),
        decode=_total(notes, "decode"),
        encode=_total(notes, "encode"),
        write=_total(notes, "write"),
        slowest=_slowest(notes),
        records=_summary(entry.record for entry in noted.values()),
    )


def found(entries: Entries | None, ids: Sequence[str]) -> tuple[int, dict[str, Entry]]:
    """Return how many of the samples are stored, and those of which something is noted."""
    if entries is None:
        return 0, {}
    known, noted = entries.keys(), entries.noted()
    count = sum(map(known.__contains__, ids))
    return count, {id: noted[id] for id in ids if id in noted}


def _dim(node: Node, collection: Collection | None) -> int | None:
    if not isinstance(node.component, Encoder):
        return None
    declared = node.component.dim
    return declared or (collection.dim if collection else None)


def _total(notes: Sequence[Mapping[str, Any]], key: str) -> float:
    found = (note.get(key) for note in notes)  # any program may add notes
    return float(sum(value for value in found if isinstance(value, int | float)))


def _slowest(notes: Sequence[Mapping[str, Any]]) -> str:
    """Return what was slowest in the longest run."""
    told = [note for note in notes if note.get("slowest") in FASTER]
    longest = max(told, key=lambda note: _total([note], "wall"), default={"slowest": ""})
    return str(longest["slowest"])


def _summary(records: Iterable[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    """Return how many samples have each warning, and how many each decision."""
    counts: Counter[str] = Counter()
    for record in records:
        if "warning" in record:
            counts[str(record["warning"])] += 1
        if "decision" in record:
            counts[f"decision: {record['decision']}"] += 1
    return dict(counts)


def failures(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Return sample id to reason for those that failed; an absent medium is no failure."""
    return {
        identifier: entry.failed
        for identifier, entry in entries.items()
        if entry.failed is not None and not entry.record.get("absent")
    }


def superseded(pipeline: Pipeline, store: Store) -> list[Collection]:
    """Return the collections that the pipeline does not use: what ``mer prune`` deletes."""
    current = {
        (group, node.name, node.fingerprint)
        for node in pipeline.nodes.values()
        for group in node.groups
    }
    return [
        collection
        for collection in store.collections()
        if (collection.group, collection.name, collection.fingerprint) not in current
    ]


def stored_samples(
    pipeline: Pipeline, store: Store, name: str, ids: Sequence[str]
) -> list[dict[str, JsonValue]]:
    """Return what is stored of some samples of a stream or feature, in order.

    ``id``; ``failed``: the reason, or null; ``rows`` and ``record``; and ``text``, where it is a
    stream of words. Raises RegistryError for a name that the registry does not have, RunError for a
    sample that is not stored.
    """
    node = pipeline.nodes.get(name)
    if node is None:
        hint = did_you_mean(name, pipeline.nodes)
        raise RegistryError(f"the registry has no stream or feature {name!r}{hint}")
    collection = store.collection(node.groups[0], node.name, node.fingerprint)
    entries = collection.entries() if collection else {}
    missing = [id for id in ids if id not in entries]
    if collection is None or missing:
        raise RunError(
            f"{node.kind} {name!r} lacks {len(missing)} of the {len(ids)} samples, the first is "
            f"{missing[0]!r}; run `mer extract {name}`"
        )
    component = node.component
    spoken = isinstance(component, Preprocessor) and isinstance(component.output, Words)
    rows = [_sample(id, entries[id]) for id in ids]
    if spoken:
        for row in rows:
            words = "" if row["failed"] else bytes(collection.sequence(str(row["id"]))).decode()
            row["text"] = words
    return rows


def _sample(id: str, entry: Entry) -> dict[str, JsonValue]:
    return {
        "id": id,
        "failed": entry.failed,
        "rows": entry.length,
        "record": dict(entry.record),
    }
