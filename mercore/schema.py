"""The JSON Schema of registry.yaml in which every installed component is described, for editors.

It is of draft 7, which the YAML language server reads: ``if`` a place `uses` a component, ``then``
its options are those. Names are listed with a line about each (``enumDescriptions``, of VS Code).
What only mercore itself can know, such as which stream or feature a name means, it leaves open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mercore.components import Component, MediaComponent
from mercore.manifest import STREAMS
from mercore.option_schema import about, options_schema
from mercore.plugins import KINDS, Plugins
from mercore.registry import Content, schema

Json = dict[str, Any]
FILE = "registry.schema.json"
"""Where the schema lies, beside the registry."""
_NAME = "[a-z][a-z0-9_]*"
_ANY = f"^{_NAME}$"
_NEW = f"^(?!({'|'.join(STREAMS)})$){_NAME}$"
"""The names that streams and features may have: not those of the columns of the manifest."""
_SUM = rf"^\s*{_NAME}(\s*\+\s*{_NAME})*\s*$"


def plugin_schema(plugins: Plugins) -> Json:
    """Return the JSON Schema of a registry.yaml that uses the installed components."""
    whole = schema()
    parts, properties = whole["$defs"], dict(whole["properties"])
    by_kind = {kind: _by_name(plugins, kind) for kind in KINDS}
    properties["classes"] |= {"uniqueItems": True, "items": {"type": "string", "minLength": 1}}
    properties["streams"] = _named(properties["streams"], "stream")
    properties["features"] = _named(properties["features"], "feature") | {"minProperties": 1}
    properties["fusion"] = _short(properties["fusion"], "fusion", by_kind["fusion"])
    properties["ensemble"] = _short(properties["ensemble"], "ensemble", by_kind["ensemble"])
    properties["branches"] = _named(properties["branches"], "short_branch", _ANY)
    properties["mining"] = {"$ref": "#/definitions/mining"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": whole["title"],
        "type": "object",
        "additionalProperties": False,
        "required": whole["required"],
        "properties": _nullable(properties, whole["required"]),
        "allOf": [_common_fusion(name) for name in by_kind["fusion"]],
        "definitions": _definitions(parts, by_kind),
    }


def write_schema(path: str | Path, content: Json) -> Path:
    """Write the schema whole or not at all; return its path."""
    from mercore.folder import replace

    return replace(Path(path), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def schema_line(registry: Path) -> str:
    """Return the line that leads editors to the schema beside a registry, ``""`` without one."""
    there = (registry.parent / FILE).exists()
    return f"# yaml-language-server: $schema={FILE}\n" if there else ""


def _by_name(plugins: Plugins, kind: str) -> dict[str, type[Component]]:
    return {found.component.name: found.component for found in plugins if found.kind == kind}


def _definitions(parts: Json, by_kind: Mapping[str, Mapping[str, type[Component]]]) -> Json:
    found: Json = {
        "mining": _section(parts["Mining"]) | {"type": ["object", "null"]},
        "stream": _use(parts["StreamUse"], "preprocessor", by_kind["preprocessor"]),
        "feature": _use(parts["FeatureUse"], "encoder", by_kind["encoder"]),
        "branch": _branch(parts["Branch"], by_kind["fusion"]),
        "short_branch": {
            "if": {"type": "object"},
            "then": {"$ref": "#/definitions/branch"},
            "else": _features(),
        },
    }
    for kind, components in by_kind.items():
        found[kind] = _use(parts["Use"], kind, components)
        for name, component in components.items():
            found[f"{kind}.{name}"] = _options(component)
    return found


def _options(component: type[Component]) -> Json:
    """Return the schema of ``with:``, where no option need be given and the key may stand alone."""
    options = options_schema(component)
    options.pop("required", None)
    return options | {"type": ["object", "null"]}


def _named(section: Json, definition: str, pattern: str = _NEW) -> Json:
    """Return the schema of a section whose keys are names of the user's."""
    return {
        "description": section["description"],
        "type": "object",
        "patternProperties": {pattern: {"$ref": f"#/definitions/{definition}"}},
        "additionalProperties": False,
    }


def _short(section: Json, kind: str, components: Mapping[str, type[Component]]) -> Json:
    """Return the schema of a component that may be given by its name alone."""
    return {
        "description": section["description"],
        "if": {"type": "object"},
        "then": {"$ref": f"#/definitions/{kind}"},
        "else": _choice([*components, None], components.values()),
    }


def _choice(names: Sequence[str | None], components: Iterable[type[Component]]) -> Json:
    return {"enum": list(names), "enumDescriptions": [about(component) for component in components]}


def _use(part: Json, kind: str, components: Mapping[str, type[Component]]) -> Json:
    """Return the schema of a place that uses one of the components."""
    found = _section(part)
    found["properties"]["uses"] |= _choice(list(components), components.values())
    found["allOf"] = [
        _when_used(component, kind, "inputs" in found["properties"])
        for component in components.values()
    ]
    return found


def _when_used(component: type[Component], kind: str, wired: bool) -> Json:
    then: Json = {"properties": {"with": _ref(kind, component.name)}}
    fields = component.model_fields.items()
    if required := [info.alias or name for name, info in fields if info.is_required()]:
        given = {"allOf": [_ref(kind, component.name)], "type": "object", "required": required}
        then = {"properties": {"with": given}, "required": ["with"]}
    if wired and issubclass(component, MediaComponent):
        then["properties"]["inputs"] = _inputs(component)
    return {"if": _is_used(component.name), "then": then}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/definitions/{kind}.{name}"}


def _is_used(name: str) -> Json:
    return {"required": ["uses"], "properties": {"uses": {"const": name}}}


def _inputs(component: type[MediaComponent]) -> Json:
    """Return the schema of ``inputs:``; others are wrong unless the options decide them."""
    names = {name: {"description": repr(spec)} for name, spec in component.inputs.items()}
    fixed = component.needs is MediaComponent.needs
    return {"properties": names} | ({"additionalProperties": False} if fixed else {})


def _branch(part: Json, fusions: Mapping[str, type[Component]]) -> Json:
    found = _section(part)
    properties = found["properties"]
    properties["features"] = {"description": properties["features"]["description"], **_features()}
    uses = _choice([*fusions, None], fusions.values())
    properties["uses"] = {"description": properties["uses"]["description"], **uses}
    found["allOf"] = [{"if": _is_used(name), "then": _some_options(name)} for name in fusions]
    return found


def _features() -> Json:
    """Return the schema of a sum of features, or of a list of them."""
    return {
        "type": ["string", "array"],
        "pattern": _SUM,
        "minItems": 1,
        "uniqueItems": True,
        "items": {"type": "string", "pattern": _ANY},
    }


def _common_fusion(name: str) -> Json:
    """Return what holds where the common fusion is `name`: branches that name none use it."""
    default = Content.model_fields["fusion"].default.uses
    short = [name, None] if name == default else [name]
    whole = {"type": "object", **_is_used(name)}
    is_common = {"properties": {"fusion": {"anyOf": [{"enum": short}, whole]}}}
    required = {} if name == default else {"required": ["fusion"]}
    unnamed = {"type": "object", "properties": {"uses": {"type": "null"}}}
    branch = {"if": unnamed, "then": _some_options(name)}
    then = {"properties": {"branches": {"patternProperties": {_ANY: branch}}}}
    return {"if": is_common | required, "then": then}


def _some_options(fusion: str) -> Json:
    """Return what a branch may say of its fusion: it keeps the other options of the common one."""
    return {"properties": {"with": _ref("fusion", fusion)}}


def _section(part: Json) -> Json:
    """Return the schema of a section; a key without a value counts as left out."""
    required = part.get("required", [])
    return {
        "type": "object",
        "description": part["description"],
        "additionalProperties": False,
        "required": required,
        "properties": _nullable(part["properties"], required),
    }


def _nullable(properties: Json, required: Sequence[str]) -> Json:
    return {name: _or_null(part, name in required) for name, part in properties.items()}


def _or_null(part: Json, required: bool) -> Json:
    """Return the schema without its title, and for null too where the key is not required."""
    found = {key: value for key, value in part.items() if key != "title"}
    if found.get("additionalProperties") == {"$ref": "#/$defs/JsonValue"}:
        found.pop("additionalProperties")
    if not required and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found
