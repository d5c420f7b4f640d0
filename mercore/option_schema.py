"""The options of a component as JSON Schema, with what its author says of each."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from mercore.components import Component
from mercore.plugins import KINDS, models_in

Json = dict[str, Any]
_KIND_OF = {base.__name__: kind for kind, base in KINDS.items()}


def about(component: type[Component]) -> str:
    """Return the first line of its docstring, as plain text."""
    return (component.__doc__ or "").strip().partition("\n")[0].replace("``", "")


def said_of_fields(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field in the source of the model and of those it inherits from.

    Without the source, as in an interactive session, there is none.
    """
    said: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if model.model_fields.keys() & inspect.get_annotations(base).keys():
            said |= _said_in(base)
    return said


def options_schema(component: type[Component]) -> Json:
    """Return the options as a JSON Schema of draft 7 that stands alone.

    An option that is itself a component refers to ``#/definitions/<kind>``, which is for the caller
    to define.
    """
    models = _models_of(component, {})
    made = component.model_json_schema()
    definitions = made.pop("$defs", {})
    described = {name: _described(part, models.get(name)) for name, part in definitions.items()}
    whole = _inlined(_described(made, component), described, ())
    assert isinstance(whole, dict)
    return whole | {"description": about(component)}


def _described(schema: Json, model: type[BaseModel] | None) -> Json:
    """Return the schema of a model with a description of each of its properties."""
    if model is None or "properties" not in schema:
        return schema
    said = said_of_fields(model)
    properties = {
        name: part if "description" in part or name not in said else part | _text(said[name])
        for name, part in schema["properties"].items()
    }
    return schema | {"properties": properties}


def _text(said: str) -> Json:
    return {"description": said.replace("``", "`")}


def _inlined(value: object, definitions: Mapping[str, Json], above: tuple[str, ...]) -> object:
    """Return the schema with definitions in the place of references, in the words of draft 7."""
    if isinstance(value, list):
        return [_inlined(part, definitions, above) for part in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        rest = {key: part for key, part in value.items() if key != "$ref"}
        return _referred(reference.rpartition("/")[2], definitions, above) | rest
    found = {key: _inlined(part, definitions, above) for key, part in value.items()}
    if isinstance(found.get("title"), str):  # the name once more; a property may be called title
        del found["title"]
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    return _or_null(found)


def _or_null(schema: Json) -> Json:
    """Return ``anyOf: [something, null]`` as what reports a mistake where it is, not above."""
    kinds = schema.get("anyOf", [])
    others = [kind for kind in kinds if kind != {"type": "null"}]
    if not (len(kinds) == 2 and len(others) == 1):
        return schema
    rest = {key: part for key, part in schema.items() if key != "anyOf"}
    other: Json = others[0]
    if "enum" in other or not isinstance(other.get("type"), str):
        return rest | {"if": {"not": {"type": "null"}}, "then": other}
    return other | rest | {"type": [other["type"], "null"]}


def _referred(name: str, definitions: Mapping[str, Json], above: tuple[str, ...]) -> Json:
    if name in _KIND_OF:
        return {"$ref": f"#/definitions/{_KIND_OF[name]}"}
    if name in above or name not in definitions:
        return {}  # a model that holds itself: anything, from there on
    found = _inlined(definitions[name], definitions, (*above, name))
    assert isinstance(found, dict)
    return found


def _models_of(
    model: type[BaseModel], found: dict[str, type[BaseModel]]
) -> dict[str, type[BaseModel]]:
    """Return the model and those among the types of its fields and theirs, by name."""
    if model.__name__ not in found:
        found[model.__name__] = model
        for info in model.model_fields.values():
            for below in models_in(info.annotation):
                _models_of(below, found)
    return found


@cache  # reading the source takes longer than all the rest
def _said_in(model: type) -> dict[str, str]:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    said = {}
    for field, text in pairwise(ast.iter_child_nodes(tree)):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str() as words)):
                said[name] = " ".join(words.split())
    return said
