"""The works to cite for an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mercore.citations import REFERENCE, Entry, cited, entries
from mercore.components import Component, Encoder, Ensemble, Fusion, Preprocessor
from mercore.document import Key
from mercore.errors import MercoreError
from mercore.plugins import Plugins
from mercore.registry import Registry


def bibliography(registry: Registry, plugins: Plugins) -> list[tuple[Entry, list[str]]]:
    """Return each work once, with the components that ask for it; the paper mercore follows first.

    Raises RegistryError with every component that is wrong, and its line.
    """
    works = {entry.key: entry for entry in entries(REFERENCE)}
    users: dict[str, list[str]] = {key: ["mercore"] for key in works}
    for component in _components(registry, plugins):
        for entry in cited(type(component)):
            works.setdefault(entry.key, entry)
            if component.name not in users.setdefault(entry.key, []):
                users[entry.key].append(component.name)
    return [(entry, users[key]) for key, entry in works.items()]


def _components(registry: Registry, plugins: Plugins) -> list[Component]:
    """Return all components that the registry uses, those that are options of others included."""
    found, mistakes = [], []
    for key, base, uses, options in _uses(registry):
        try:
            found += _with_nested(plugins.build(base, uses, options))
        except MercoreError as error:
            mistakes.append((key, str(error)))
    if mistakes:
        raise registry.error(mistakes)
    return found


def _uses(registry: Registry) -> Iterator[tuple[Key, type[Component], str, Mapping[str, Any]]]:
    content = registry.content
    for name, stream in content.streams.items():
        yield ("streams", name), Preprocessor, stream.uses, stream.with_
    for name, feature in content.features.items():
        yield ("features", name), Encoder, feature.uses, feature.with_
    common = content.fusion
    if not content.branches:
        yield ("fusion",), Fusion, common.uses, common.with_
    for name, branch in content.branches.items():
        if branch.uses in (None, common.uses):
            yield ("branches", name), Fusion, common.uses, {**common.with_, **branch.with_}
        else:
            yield ("branches", name), Fusion, str(branch.uses), branch.with_
    yield ("ensemble",), Ensemble, content.ensemble.uses, content.ensemble.with_


def _with_nested(component: Component) -> list[Component]:
    nested = (getattr(component, name) for name in type(component).model_fields)
    below = [_with_nested(option) for option in nested if isinstance(option, Component)]
    return [component, *(part for parts in below for part in parts)]
