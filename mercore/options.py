"""The options of a component in words, for the reference pages and `mer plugins show`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, JsonValue

from mercore.option_schema import said_of_fields

Schema = Mapping[str, Any]
"""A part of a JSON Schema."""

_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "array": "list",
    "object": "options by name",
    "null": "`null`",
}
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NAMES = {
    "JsonValue": "any value",
    "Preprocessor": "a preprocessor",
    "Encoder": "an encoder",
    "Fusion": "a fusion",
    "Ensemble": "an ensemble",
}


@dataclass(frozen=True)
class Option:
    """One option of a component; its words are Markdown."""

    name: str
    type: str
    """In words, with its limits: ``whole number, ≥ 1 or `null` ``."""
    limits: Mapping[str, JsonValue]
    """What bounds the value, by the names of JSON Schema."""
    required: bool
    default: JsonValue
    """None also where it is required."""
    about: str

    @property
    def default_in_yaml(self) -> str:
        """The default as registry.yaml has it; empty where the option is required."""
        return "" if self.required else in_yaml(self.default)


def options_of(component: type[BaseModel]) -> list[Option]:
    """Return the options of a component, or of a training, in the order of the class.

    What an option is comes from ``Field(description=...)``, else from the text below the field.
    """
    if not component.model_fields:
        return []
    said = said_of_fields(component)
    return [
        Option(
            name,
            type_in_words(schema),
            _limits(schema),
            "default" not in schema,
            schema.get("default"),
            schema.get("description") or said.get(name, ""),
        )
        for name, schema in component.model_json_schema()["properties"].items()
    ]


def type_in_words(schema: Schema, names: Mapping[str, str] = _NAMES) -> str:
    """Return the type that a JSON Schema describes, as Markdown, with its limits.

    `names` says what to call the models that it refers to.
    """
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        parts = (type_in_words(part, names) for part in schema["anyOf"])
        return " or ".join(dict.fromkeys(parts))
    if "$ref" in schema:
        return names.get(schema["$ref"].rpartition("/")[2], "mapping")
    if "patternProperties" in schema:
        (value,) = schema["patternProperties"].values()
        return f"name: {type_in_words(value, names)}"
    words = _TYPES[schema.get("type", "object")]
    if "items" in schema:
        words += f" of {type_in_words(schema['items'], names)}"
    limits = (f"{sign} {schema[key]}" for key, sign in _LIMITS.items() if key in schema)
    return ", ".join([words, *limits])


def in_yaml(default: JsonValue) -> str:
    """Return a default as registry.yaml writes it; a component in its short form."""
    if isinstance(default, dict):
        default = default.get("uses", {name: value for name, value in default.items() if value})
    return default if isinstance(default, str) else json.dumps(default)


def _limits(schema: Schema) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for part in (schema, *schema.get("anyOf", ())):
        keys = (*_LIMITS, "minItems", "maxItems", "minLength", "maxLength", "pattern", "enum")
        found |= {key: part[key] for key in keys if key in part}
    return found
