"""Which component of a project is meant by a name, and what training it offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mercore.components import MediaComponent
from mercore.errors import PluginError, RegistryError, RunError, did_you_mean, few, listed
from mercore.pipeline import Node
from mercore.tuning._options import Training

if TYPE_CHECKING:
    from mercore.project import Project


def node_of(project: Project, name: str) -> Node:
    """Return the feature or stream of that name, or the only one that uses such a component."""
    nodes = project.pipeline.nodes
    if name in nodes:
        return nodes[name]
    users = [node for node in nodes.values() if node.component.name == name]
    if len(users) == 1:
        return users[0]
    if users:
        found = ", ".join(node.name for node in users)
        raise RegistryError(f"{name!r} is used by several {users[0].kind}s: {found}; name one")
    known = [*nodes, *(node.component.name for node in nodes.values())]
    hint = did_you_mean(name, known) or f"; has {few(list(nodes))}"
    missing = f"no feature {name!r} or stream of that name, and none that uses it"
    raise RegistryError(f"the registry has {missing}{hint}")


def feature_of(project: Project, name: str) -> Node:
    """Return what ``node_of`` does, where it is a feature; raises RunError for a stream."""
    node = node_of(project, name)
    if node.kind != "feature":
        raise RunError(
            f"{name!r} is a stream, for `mer tune` alone; `mer pretrain`, --vary and --plan are "
            "for the encoders of features"
        )
    return node


def tuning_of(component: MediaComponent, aim: str, options: Mapping[str, Any]) -> Training:
    """Return the component's training of that aim; raises RunError for wrong options.

    PluginError: the component cannot be trained so.
    """
    kinds = component.tunings
    if aim not in kinds:
        others = f"; it offers {', '.join(kinds)}" if kinds else ""
        raise PluginError(
            f"{component.name!r} cannot be trained by `mer {aim}`{others}; "
            "`mer plugins` shows which can"
        )
    kind = kinds[aim]
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        raise RunError(f"mer {aim} {component.name}: {_said(kind, error)}") from error


def _said(kind: type[Training], error: ValidationError) -> str:
    lines = []
    for mistake in error.errors():
        name = ".".join(map(str, mistake["loc"])) or "the options"
        if mistake["type"] == "extra_forbidden":
            lines.append(f"no option {name!r}{did_you_mean(name, kind.model_fields)}")
        else:
            found = f", found {mistake['input']!r}" if mistake["loc"] else ""
            lines.append(f"{name}: {mistake['msg'].removeprefix('Value error, ')}{found}")
    return lines[0] if len(lines) == 1 else f"wrong options:{listed(lines)}"
