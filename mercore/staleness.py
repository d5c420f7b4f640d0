"""Why a branch that was trained would be trained again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from mercore.components import IntArray
from mercore.dataset import label_indices, trainable
from mercore.errors import MercoreError
from mercore.folder import RunFolder
from mercore.manifest import Manifest
from mercore.pipeline import BranchNode, Node, Pipeline
from mercore.recipes import Change, branch_recipe, changes, described_recipe, stored_recipe
from mercore.registry import Registry
from mercore.store import Store
from mercore.target import header

_COMMON = ("classes", "folds", "seed")


def reasons(
    branch: BranchNode,
    pipeline: Pipeline,
    folder: RunFolder,
    store: Store | None,
    manifest: Manifest | None,
) -> list[Change]:
    """Return what is otherwise than when a branch of the run folder was trained.

    Of a feature that changed, what the store noted of the old one tells why. Empty for a branch
    that was never trained, and where nothing is seen without a manifest.
    """
    about = folder.trained(branch.name)
    if about is None:
        return []
    before = _trained_recipe(about) | _common(folder)
    after = branch_recipe(branch, pipeline)
    found: list[Change] = []
    for change in changes(before, {key: after[key] for key in after if key in before or _own(key)}):
        kind, _, name = change.what.partition(" ")
        if kind == "feature":
            found += made_otherwise(pipeline.features[name], str(change.before), pipeline, store)
        else:
            found.append(change)
    if manifest is None:
        return found
    return [*found, *_samples(pipeline, folder, manifest)] or [Change("samples")]


def _own(key: str) -> bool:
    return key not in _COMMON


def _trained_recipe(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what branch.json says of what decided the branch."""
    prints = {f"feature {name}": value for name, value in about["features"].items()}
    return {"features": list(about["features"])} | described_recipe(about["fusion"]) | prints


def _common(folder: RunFolder) -> dict[str, Any]:
    """Return what the registry of the run says for all branches."""
    try:
        content = Registry.read(folder.path / "registry.yaml").content
    except MercoreError:
        return {}
    return {"classes": list(content.classes), "folds": content.folds, "seed": content.seed}


def made_otherwise(
    node: Node, before: str, pipeline: Pipeline, store: Store | None
) -> Iterator[Change]:
    """Yield why a stream or feature is not the one of an earlier fingerprint.

    By what the store noted of that; where it has none, just that it is another.
    """
    old = store.collection(node.groups[0], node.name, before) if store else None
    what = f"{node.kind} {node.name}"
    if old is None or not old.header.get("component"):
        yield Change(what, before, node.fingerprint)
        return
    found = changes(stored_recipe(old.header), stored_recipe(header(node, pipeline)))
    for change in found or [Change("media")]:
        read = node.inputs.get(change.what.removeprefix("inputs."), "")
        before_read = _stream(change.before, store) if read else change.before
        if read and before_read == read and read in pipeline.streams:
            yield from made_otherwise(pipeline.streams[read], str(change.before), pipeline, store)
        else:
            yield Change(f"{what}: {change.what}", before_read, read or change.after)


def _stream(fingerprint: JsonValue, store: Store | None) -> JsonValue:
    """Return the name of a stream in the store; of another input, such as a column, itself."""
    streams = store.collections("streams") if store else []
    return next((one.name for one in streams if one.fingerprint == fingerprint), fingerprint)


def _samples(pipeline: Pipeline, folder: RunFolder, manifest: Manifest) -> Iterator[Change]:
    """Yield that there are other training samples, or other labels."""
    try:
        before = folder.training_samples()
    except MercoreError:
        return
    labels: IntArray = label_indices(manifest.samples, pipeline.classes)
    inside = trainable(manifest.samples, labels).tolist()
    now = {
        one.id: one.label for one, chosen in zip(manifest.samples, inside, strict=True) if chosen
    }
    if before != now:
        same = sum(now.get(id) == label for id, label in before.items())
        yield Change("training samples", len(before), len(now))
        yield Change("training samples with the same label", len(before), same)
