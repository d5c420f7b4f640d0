"""Where a stream or feature comes from, down to the columns of the manifest, and what there is.

A lineage is a JSON object:

- ``kind``, ``name``; ``line`` of the registry; ``uses``, ``about`` (one line), ``distribution``,
  ``revision``, ``licence`` (of the default weights or a program, else ``""``);
- ``options``: name to ``value``, and ``by``: ``registry``, ``search`` or ``default``; of a
  component ``uses``, and ``with`` as given;
- ``identity``: what decides the numbers beside the options, such as a hash of the checkpoint;
- ``dtype``, ``frames``, ``fingerprint``;
- ``inputs``: name to ``stream``, ``needs`` (what the component asks of it), and ``from``: the
  lineage of a stream, or ``column`` with the number of ``samples`` that give it, null where no
  manifest is known;
- ``store``: one object a group, null without a store; ``rate``: what was measured, or null;
- ``others``: what else the store has by that name, and ``why`` it is not this one;
- ``used_by``: ``streams`` and ``features`` that read it, ``branches`` that need it;
- ``sample``, where one is asked for: null where the store has nothing of it, else ``failed``,
  ``rows``, ``record`` and ``text`` as ``stored_samples`` gives them, ``sources``: column to the
  identity of the file that it was made from, and whether they are ``unchanged``. A column then has
  the ``file`` itself, or the words in ``given``.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue

from mercore.components import Component
from mercore.folder import RunFolder
from mercore.manifest import Manifest, Sample
from mercore.measured import rate
from mercore.pipeline import ROOTS, Node, Pipeline
from mercore.sources import Sources
from mercore.staleness import made_otherwise
from mercore.status import failures, stored_samples
from mercore.store import Collection, Store

Json = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """An experiment, as far as there is one: perhaps no more than a registry."""

    pipeline: Pipeline
    manifest: Manifest | None
    store: Store | None
    folder: RunFolder
    sample: Sample | None = None
    """The one that is asked for."""


def lineage(node: Node, known: Known) -> Json:
    """Return the lineage of a stream or feature."""
    content = known.pipeline.registry.content
    given = {**content.streams, **content.features}[node.name].with_
    return {
        "kind": node.kind,
        "name": node.name,
        "line": known.pipeline.registry.document.lines.get((f"{node.kind}s", node.name)),
        **about(node.component, node.origin, given),
        "dtype": node.dtype,
        "frames": node.frames,
        "fingerprint": node.fingerprint,
        "inputs": {name: _input(node, name, known) for name in node.inputs},
        "store": None if known.store is None else _stored(node, known.store, known.manifest),
        "rate": _rate(node, known.store) if known.store else None,
        "others": _others(node, known.pipeline, known.store) if known.store else [],
        "used_by": _used_by(node, known.pipeline),
        **({"sample": _of_sample(node, known, known.sample)} if known.sample else {}),
    }


def about(
    component: Component, origin: str, given: Container[str], found: Container[str] = ()
) -> Json:
    """Return what a component is: `given` options are the registry's, `found` those of a search."""
    identity = dict(component.identity())
    fields = type(component).model_fields
    return {
        "uses": component.name,
        "about": (component.__doc__ or "").strip().partition("\n")[0].replace("``", ""),
        "distribution": origin,
        "revision": component.revision,
        "licence": component.licence,
        "options": {
            name: {
                "value": _value(getattr(component, name), component, name),
                "by": "search" if name in found else "registry" if name in given else "default",
            }
            for name in fields
        },
        "identity": identity,
    }


def _value(value: object, component: Component, name: str) -> JsonValue:
    if isinstance(value, Component):
        options: JsonValue = value.model_dump(mode="json", exclude_unset=True)
        return {"uses": value.name, "with": options}
    plain: JsonValue = component.model_dump(mode="json", include={name})[name]
    return plain


def _input(node: Node, name: str, known: Known) -> Json:
    stream = node.inputs[name]
    needs = {"stream": stream, "needs": repr(node.component.needs()[name])}
    if stream in known.pipeline.streams:
        return {**needs, "from": lineage(known.pipeline.streams[stream], known)}
    column = {"column": stream, "samples": _giving(stream, known.manifest)}
    return {**needs, **column, **(_given(stream, known.sample) if known.sample else {})}


def _giving(column: str, manifest: Manifest | None) -> int | None:
    """Return how many samples give a medium; a video is audio too."""
    if manifest is None or column not in ROOTS:
        return None
    columns = ("audio", "video") if column == "audio" else (column,)
    return sum(map(any, zip(*(manifest.table[name] for name in columns), strict=True)))


def _given(column: str, sample: Sample) -> Json:
    file = sample.file(column)
    return {"file": file, "given": sample.words(column) if file is None else None}


def _of_sample(node: Node, known: Known, sample: Sample) -> Json | None:
    """Return what the store has of a sample."""
    store = known.store
    collection = store.collection(node.groups[0], node.name, node.fingerprint) if store else None
    if store is None or collection is None or sample.id not in collection.entries():
        return None
    (row,) = stored_samples(known.pipeline, store, node.name, [sample.id])
    source = collection.entries()[sample.id].source
    return {
        **row,
        "sources": dict(zip(node.roots, source.split(" "), strict=False)),
        "unchanged": Sources().unchanged(source, sample, node.roots),
    }


def _stored(node: Node, store: Store, manifest: Manifest | None) -> list[Json]:
    found = [store.collection(group, node.name, node.fingerprint) for group in node.groups]
    return [_collection(one, store, manifest) for one in found if one]


def _collection(collection: Collection, store: Store, manifest: Manifest | None) -> Json:
    entries, notes = collection.entries(), collection.notes()
    ids = manifest.ids if manifest else list(entries)
    noted, inside = entries.noted(), [id for id in ids if id in entries]
    bad = {id: noted[id] for id in inside if id in noted and noted[id].failed is not None}
    failed = failures(bad)
    return {
        "group": collection.group,
        "path": collection.identity.folder,
        "done": len(inside) - len(bad),
        "failed": len(failed),
        "absent": len(bad) - len(failed),
        "missing": len(ids) - len(inside) if manifest else None,
        "dim": collection.dim,
        "bytes": store.size(collection),
        "created": collection.created.isoformat(timespec="seconds"),
        "extracted": notes[-1].get("time") if notes else None,
        "distribution": collection.header.get("distribution"),
    }


def _rate(node: Node, store: Store) -> Json | None:
    collection = store.collection(node.groups[0], node.name, node.fingerprint)
    found = rate(collection) if collection else None
    return asdict(found) if found else None


def _others(node: Node, pipeline: Pipeline, store: Store) -> list[Json]:
    """Return what the store has of the name under other fingerprints."""
    return [
        {
            "path": one.identity.folder,
            "samples": len(one.entries()),
            "why": [
                asdict(change) for change in made_otherwise(node, one.fingerprint, pipeline, store)
            ],
        }
        for one in store.collections(node.groups[0])
        if one.name == node.name and one.fingerprint != node.fingerprint
    ]


def _used_by(node: Node, pipeline: Pipeline) -> Json:
    nodes = pipeline.nodes
    readers = [other for other in nodes.values() if node.name in other.inputs.values()]
    below = {name for name in pipeline.features if node.name in pipeline.upstream(name)}
    needed: Mapping[str, Container[str]] = {
        name: branch.features for name, branch in pipeline.branches.items()
    }
    return {
        "streams": [other.name for other in readers if other.kind == "stream"],
        "features": [other.name for other in readers if other.kind == "feature"],
        "branches": [
            name
            for name, features in needed.items()
            if any(feature in features for feature in below | {node.name})
        ],
    }
