"""What decides each part of a pipeline, key by key, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from mercore.components import Component
from mercore.fingerprints import describe
from mercore.pipeline import BranchNode, Node, Pipeline

Recipe = Mapping[str, JsonValue]
"""Dotted key, as in registry.yaml, to value; ``stream NAME`` and ``feature NAME``: fingerprints."""

_MADE = ("stream ", "feature ")
_COMPONENT = {"uses", "revision", "options"}


@dataclass(frozen=True)
class Change:
    """One reason why something is not computed as before."""

    what: str
    """A key of a recipe, or what changed before it: ``with.layers``, ``stream denoised``."""
    before: JsonValue = None
    after: JsonValue = None
    """None where there was, or is, none."""


def component_recipe(component: Component) -> dict[str, JsonValue]:
    """Return what decides what the component computes; what identifies a checkpoint, for it."""
    return described_recipe(describe(component))


def described_recipe(described: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the same of what ``describe`` said of a component, once."""
    return dict(_flat(described, ""))


def node_recipe(node: Node, pipeline: Pipeline) -> Recipe:
    """Return what decides a stream or feature: all that its fingerprint is of, and its frames."""
    inputs: dict[str, JsonValue] = {f"inputs.{name}": read for name, read in node.inputs.items()}
    made: dict[str, JsonValue] = {
        f"stream {name}": pipeline.streams[name].fingerprint
        for name in node.upstream(pipeline.streams)
    }
    recipe = component_recipe(node.component) | inputs | made | {"dtype": node.dtype}
    return recipe | ({"frames": node.frames} if node.kind == "feature" else {})


def branch_recipe(branch: BranchNode, pipeline: Pipeline) -> Recipe:
    """Return what decides a branch beside the samples."""
    content = pipeline.registry.content
    prints: dict[str, JsonValue] = {
        f"feature {name}": value for name, value in pipeline.fingerprints(branch).items()
    }
    common: dict[str, JsonValue] = {
        "classes": list(content.classes), "folds": content.folds, "seed": content.seed
    }  # fmt: skip
    own: dict[str, JsonValue] = {"features": list(branch.features)}
    return own | component_recipe(branch.fusion) | prints | common


def stored_recipe(header: Mapping[str, Any]) -> Recipe:
    """Return what the store noted of how a stream or feature was made."""
    inputs = {f"inputs.{name}": made for name, made in header.get("inputs", {}).items()}
    known = {key: header[key] for key in ("dtype", "distribution") if key in header}
    component: Any = header.get("component")
    return (described_recipe(component) if component else {}) | inputs | known


def changes(before: Recipe, after: Recipe) -> list[Change]:
    """Return what differs; nothing of the options of a component in whose place is another."""
    keys = dict.fromkeys([*before, *after])
    found = [
        Change(key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
        and not (key.startswith(_MADE) and not (key in before and key in after))
    ]
    others = [
        change.what.removesuffix("uses") for change in found if change.what.split(".")[-1] == "uses"
    ]
    inside = tuple(f"{at}{part}" for at in others for part in ("with.", "revision"))
    return [change for change in found if not (inside and change.what.startswith(inside))]


def with_given(found: list[Change], before: Component, after: Component) -> list[Change]:
    """Return the changes with the options as they are given, where an identity stood for them."""
    return [_with_given(change, before, after) for change in found]


def _with_given(change: Change, before: Component, after: Component) -> Change:
    name = change.what.removeprefix("with.")
    if name not in before.identity() or name not in after.identity():
        return change
    old, new = (component.model_dump(mode="json").get(name) for component in (before, after))
    return change if old == new else Change(change.what, old, new)


def _flat(described: Mapping[str, Any], at: str) -> Iterator[tuple[str, JsonValue]]:
    yield f"{at}uses", described["uses"]
    yield f"{at}revision", described["revision"]
    for name, value in described["options"].items():
        if _is_component(value):
            yield from _flat(value, f"{at}with.{name}.")
        else:
            yield f"{at}with.{name}", value


def _is_component(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == _COMPONENT
