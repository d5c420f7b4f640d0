"""Hashes of all that can change the numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from mercore.components import Component
from mercore.manifest import Manifest, Sample
from mercore.mining import PseudoLabels
from mercore.pipeline import Node, Pipeline
from mercore.store import Entry

BRANCH_REVISION = 2
"""Raise it when a branch trained before is no longer what would be trained now."""


def describe(component: Component) -> dict[str, JsonValue]:
    """Return all that decides what the component computes, as JSON."""
    options: dict[str, JsonValue] = component.model_dump(mode="json")
    for name in type(component).model_fields:
        value = getattr(component, name)
        if isinstance(value, Component):
            options[name] = describe(value)
    options |= component.identity()
    return {"uses": component.name, "revision": component.revision, "options": options}


def fingerprint(value: JsonValue) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of the value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def branch_keys(
    pipeline: Pipeline, manifest: Manifest, features: Mapping[str, Mapping[str, Entry]]
) -> dict[str, str]:
    """Return a hash of all that decides a branch: features, samples, labels, options.

    `features` is what the store knows of each sample, for each feature of the branches.
    """
    keys = {
        name: _feature_key(pipeline.features[name], manifest.samples, entries)
        for name, entries in features.items()
    }
    common = _common(pipeline, manifest)
    return {
        name: fingerprint(
            common
            | {
                # In their order, in which a network draws its weights.
                "features": [[feature, keys[feature]] for feature in branch.features],
                "fusion": describe(branch.fusion),
            }
        )
        for name, branch in pipeline.branches.items()
    }


def mined_keys(
    keys: Mapping[str, str], pseudo: PseudoLabels, ids: Sequence[str], warm: int | None
) -> dict[str, str]:
    """Return a hash of all that decides each branch of a round of mining.

    `keys` are those of the round before where it goes on from them for `warm` epochs, else those
    of the branches without pseudo-labels.
    """
    shares: dict[str, list[JsonValue]] = {name: [] for name in keys}
    names = list(keys)
    for row in np.flatnonzero(pseudo.learners >= 0).tolist():
        shares[names[pseudo.learners[row]]].append([ids[row], int(pseudo.labels[row])])
    return {name: fingerprint([key, shares[name], warm]) for name, key in keys.items()}


def common_key(pipeline: Pipeline, manifest: Manifest) -> str:
    """Return a hash of what all branches are trained on alike: samples, labels, folds, seed."""
    return fingerprint(_common(pipeline, manifest))


def _common(pipeline: Pipeline, manifest: Manifest) -> dict[str, JsonValue]:
    return {
        "revision": BRANCH_REVISION,
        "classes": list(pipeline.classes),
        "samples": _samples_key(manifest.samples),
        "folds": pipeline.registry.content.folds,
        "seed": pipeline.registry.content.seed,
    }


def _samples_key(samples: Sequence[Sample]) -> str:
    rows = [(sample.id, sample.split, sample.label) for sample in samples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _feature_key(node: Node, samples: Sequence[Sample], entries: Mapping[str, Entry]) -> str:
    found = hashlib.sha256(node.fingerprint.encode())
    for sample in samples:
        entry = entries.get(sample.id)
        found.update(f"{sample.id}\0{entry and (entry.source, entry.failed)}\0".encode())
    return found.hexdigest()
