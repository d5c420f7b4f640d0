"""What two registries compute differently, part by part, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mercore.components import Component
from mercore.pipeline import Node, Pipeline
from mercore.recipes import (
    Change,
    Recipe,
    branch_recipe,
    changes,
    component_recipe,
    node_recipe,
    with_given,
)

SAME, ADDED, REMOVED, CHANGED = "same", "added", "removed", "changed"


@dataclass(frozen=True)
class Difference:
    """One part of the pipeline in both registries."""

    kind: str
    """``stream``, ``feature``, ``branch``, ``mining``, ``ensemble`` or ``results``."""
    name: str
    """``""`` for a kind of which there is one."""
    status: str
    """``same``, ``added``, ``removed`` or ``changed``."""
    why: tuple[Change, ...] = ()


@dataclass(frozen=True)
class _Part:
    key: object
    """Equal where the same is computed."""
    recipe: Recipe
    component: Component


_Parts = Mapping[str, _Part]


def differences(before: Pipeline, after: Pipeline) -> list[Difference]:
    """Return every part of either pipeline, in the order of the data; the results come last.

    What changed is what is computed otherwise: comments, and order in the file, do not count.
    """
    parts: list[Difference] = []
    for kind in ("streams", "features"):
        old, new = (_nodes(getattr(each, kind), each) for each in (before, after))
        parts += _compared(kind.removesuffix("s"), old, new)
    branches = _compared("branch", _branches(before), _branches(after))
    voted = [*branches, *_mining(before, after, branches), _ensemble(before, after)]
    return [*parts, *voted, _results(voted)]


def _nodes(nodes: Mapping[str, Node], pipeline: Pipeline) -> _Parts:
    return {
        name: _Part((node.fingerprint, node.frames), node_recipe(node, pipeline), node.component)
        for name, node in nodes.items()
    }


def _branches(pipeline: Pipeline) -> _Parts:
    parts = {}
    for name, branch in pipeline.branches.items():
        recipe = branch_recipe(branch, pipeline)
        parts[name] = _Part(recipe, recipe, branch.fusion)
    return parts


def _compared(kind: str, before: _Parts, after: _Parts) -> list[Difference]:
    """Return the parts of one kind, those of `after` first, in their order."""
    gone = [Difference(kind, name, REMOVED) for name in before if name not in after]
    return [*(_one(kind, name, before, after) for name in after), *gone]


def _one(kind: str, name: str, before: _Parts, after: _Parts) -> Difference:
    new, old = after[name], before.get(name)
    if old is None:
        renamed = (other for other in before if other not in after and before[other].key == new.key)
        return Difference(
            kind, name, ADDED, tuple(Change("name", other, name) for other in renamed)
        )
    if old.key == new.key:
        return Difference(kind, name, SAME)
    why = with_given(changes(old.recipe, new.recipe), old.component, new.component)
    return Difference(kind, name, CHANGED, tuple(why))


def _mining(
    before: Pipeline, after: Pipeline, branches: Sequence[Difference]
) -> Iterator[Difference]:
    """Yield what is said of the data mining, where either registry declares some."""
    old, new = (pipeline.registry.content.mining for pipeline in (before, after))
    if old and new:
        keys = changes(old.model_dump(mode="json"), new.model_dump(mode="json"))
        why = (*keys, *_others(branches))
        yield Difference("mining", "", CHANGED if why else SAME, why)
    elif old or new:
        yield Difference("mining", "", REMOVED if old else ADDED)


def _ensemble(before: Pipeline, after: Pipeline) -> Difference:
    old, new = before.ensemble, after.ensemble
    why = with_given(changes(component_recipe(old), component_recipe(new)), old, new)
    return Difference("ensemble", "", CHANGED if why else SAME, tuple(why))


def _results(voted: Sequence[Difference]) -> Difference:
    """Return whether the predictions change: they come from all the branches together."""
    why = _others(voted)
    return Difference("results", "", CHANGED if why else SAME, why)


def _others(parts: Sequence[Difference]) -> tuple[Change, ...]:
    """Return the parts that are not the same as reasons for what is made from all of them."""
    return tuple(
        Change(f"{part.kind} {part.name}".strip(), None, part.status)
        for part in parts
        if part.status != SAME
    )
