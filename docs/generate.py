"""Write the pages of docs/reference from the code: python docs/generate.py.

A test compares them with what this would write.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from mercore import hookspecs
from mercore.cli import main
from mercore.components import Component, Encoder, MediaComponent, Preprocessor
from mercore.plugins import KINDS, Plugins
from mercore.registry import schema

FOLDER = Path(__file__).parent / "reference"
OURS = ("mercore", "mercore-attention", "mercore-linear", "mercore-starter")


def pages() -> dict[str, str]:
    """Return each page's content by file name."""
    found = {"cli": cli(), "components": components(), "hooks": hooks(), "registry": registry()}
    note = "<!-- Made by docs/generate.py. -->\n\n"
    return {f"{name}.md": note + "\n".join(lines) + "\n" for name, lines in found.items()}


def cli() -> Iterator[str]:
    """Yield the help of each command."""
    yield "# Commands"
    settings: dict[str, Any] = {
        "resilient_parsing": True,
        "max_content_width": 88,
        "terminal_width": 88,
    }
    whole = main.make_context("mer", [], **settings)
    contexts = [whole] + [
        command.make_context(name, [], parent=whole, **settings)
        for name, command in main.commands.items()
    ]
    for context in contexts:
        text = context.command.get_help(context)
        yield from ("", f"## {context.command_path}", "", "```text", text, "```")


def components() -> Iterator[str]:
    """Yield the options of each component that mercore's own distributions provide."""
    yield "# Components"
    yield ""
    yield "What mercore and its own plugins provide, with the options that go under `with:`."
    for provided in Plugins():
        if provided.distribution in OURS:
            yield from _component(provided.component, provided.kind, provided.distribution)


def _component(component: type[Component], kind: str, distribution: str) -> Iterator[str]:
    article = "an" if kind[0] in "aeiou" else "a"
    yield from ("", f"## {component.name}", "")
    yield f"{inspect.cleandoc(component.__doc__ or '').splitlines()[0]}"
    yield ""
    yield f"It is {article} {kind} of `{distribution}`{_media(component)}."
    yield ""
    if not component.model_fields:
        yield "No options."
        return
    yield from ("| option | type | default |", "|---|---|---|")
    for name, field in component.model_fields.items():
        yield f"| `{name}` | `{_type(field)}` | `{_default(field)}` |"


def _media(component: type[Component]) -> str:
    if not issubclass(component, MediaComponent):
        return ""
    inputs = ", ".join(f"`{name}: {spec!r}`" for name, spec in component.inputs.items())
    output = f" and gives `{component.output!r}`" if issubclass(component, Preprocessor) else ""
    revision = f", revision {component.revision}" if issubclass(component, Encoder) else ""
    return f", reads {inputs}{output}{revision}"


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "").replace(" | ", " or ")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else repr(field.default)


def hooks() -> Iterator[str]:
    """Yield the hooks with their signatures."""
    yield "# Hooks"
    yield ""
    yield "The hooks of the pluggy project `mercore`; a plugin implements those it needs."
    for kind in KINDS:
        hook = getattr(hookspecs, f"{kind}s")
        signature = str(inspect.signature(hook)).replace("'", "")
        yield from ("", f"## {kind}s", "", "```py", f"def {kind}s{signature}: ...", "```", "")
        yield inspect.getdoc(hook) or ""


def registry() -> Iterator[str]:
    """Yield the keys of registry.yaml."""
    whole = schema()
    yield "# Keys of registry.yaml"
    yield ""
    yield "`mer schema` prints the same as a JSON Schema, for editors."
    yield from _keys("The file", whole)
    for name in ("StreamUse", "FeatureUse", "Branch", "Use", "Mining"):
        yield from _keys(TITLES[name], whole["$defs"][name])


TITLES = {
    "StreamUse": "A stream",
    "FeatureUse": "A feature",
    "Branch": "A branch",
    "Use": "fusion, ensemble",
    "Mining": "mining",
}


def _keys(title: str, model: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| key | default | is |", "|---|---|---|")
    for name, key in model["properties"].items():
        default = "required" if name in model.get("required", ()) else f"`{key.get('default')}`"
        yield f"| `{name}` | {default} | {key.get('description', '')} |"


if __name__ == "__main__":
    for file, content in pages().items():
        (FOLDER / file).write_text(content, encoding="utf-8")
