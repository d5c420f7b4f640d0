"""Write the pages of docs/reference from the code: python docs/generate.py.

A test compares them with what this would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from click import Context, Group
from pydantic import BaseModel

from mercore import hookspecs, testing
from mercore.citations import cited
from mercore.cli import main
from mercore.components import Component, MediaComponent, Preprocessor
from mercore.options import in_yaml, options_of, type_in_words
from mercore.plugins import KINDS, Plugins, Provided
from mercore.registry import schema

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
OURS = {"mercore", *(f"mercore-{folder.name}" for folder in (ROOT / "plugins").iterdir())}


def pages() -> dict[str, str]:
    """Return each page's content by its path below docs/reference."""
    found = {"cli": cli(), "components": components(), "hooks": hooks(), "registry": registry()}
    found["checks"] = checks()
    found |= {f"plugins/{name}": plugin(name) for name in sorted(OURS)}
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
    for context in _commands(whole, settings):
        text = context.command.get_help(context)
        yield from ("", f"## {context.command_path}", "", "```text", text, "```")


def _commands(context: Context, settings: Mapping[str, Any]) -> Iterator[Context]:
    """Yield the context of a command and of those below it."""
    yield context
    if isinstance(context.command, Group):
        for name, command in context.command.commands.items():
            below = command.make_context(name, [], parent=context, **settings)
            yield from _commands(below, settings)


def components() -> Iterator[str]:
    """Yield what each component of mercore's own distributions is, with a link to its page."""
    yield from ("# Components", "", "What mercore and its own plugins provide.", "")
    yield from ("| component | kind | is | page |", "|---|---|---|---|")
    for provided in _ours():
        page = f"[{provided.distribution}](plugins/{provided.distribution}.md)"
        yield _row(f"`{provided.component.name}`", provided.kind, *_doc(provided)[:1], page)


def plugin(distribution: str) -> Iterator[str]:
    """Yield what a distribution provides: the docstring and the options of each component."""
    yield f"# {distribution}"
    own = [provided for provided in _ours() if provided.distribution == distribution]
    folder = ROOT / "plugins" / distribution.removeprefix("mercore-")
    readme = (folder / "README.md").read_text(encoding="utf-8") if folder.is_dir() else ""
    # Not the YAML of one component alone: how those of the distribution are wired together.
    for block in re.findall(r"^```yaml\n.*?^```", readme, re.DOTALL | re.MULTILINE)[:1]:
        yield from ("", "In registry.yaml:", "", block)
    for provided in own:
        yield from _component(provided)


def _ours() -> list[Provided]:
    return [provided for provided in Plugins() if provided.distribution in OURS]


def _doc(provided: Provided) -> list[str]:
    text = inspect.cleandoc(provided.component.__doc__ or "")
    return text.replace("``", "`").splitlines()


def _component(provided: Provided) -> Iterator[str]:
    component, kind = provided.component, provided.kind
    article = "An" if kind[0] in "aeiou" else "A"
    yield from ("", f"## {component.name}", "")
    yield f"{article} {kind}{_media(component)}."
    yield from ("", *_doc(provided), "")
    yield from _options(component)
    if issubclass(component, MediaComponent):
        for aim, training in component.tunings.items():
            yield from ("", f"### mer {aim} {component.name}", "")
            yield from inspect.cleandoc(training.__doc__ or "").replace("``", "`").splitlines()
            yield ""
            yield from _options(training)
    if component.licence:
        yield from ("", f"Licence of the default weights: {component.licence}.")
    if works := cited(component):
        yield from ("", "To cite:", "", "```bibtex", "\n\n".join(map(str, works)), "```")


def _options(component: type[BaseModel]) -> Iterator[str]:
    options = options_of(component)
    if not options:
        yield "No options."
        return
    yield from ("| option | type | default | is |", "|---|---|---|---|")
    for option in options:
        default = option.default_in_yaml and f"`{option.default_in_yaml}`"
        yield _row(f"`{option.name}`", option.type, default, option.about.replace("``", "`"))


def _media(component: type[Component]) -> str:
    if not issubclass(component, MediaComponent):
        return ""
    inputs = ", ".join(f"`{name}: {spec!r}`" for name, spec in component.inputs.items())
    output = f" and gives `{component.output!r}`" if issubclass(component, Preprocessor) else ""
    return f" that reads {inputs}{output}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def hooks() -> Iterator[str]:
    """Yield the hooks with their signatures."""
    yield from ("# Hooks", "")
    yield "The hooks of the pluggy project `mercore`; a plugin implements those it needs, marked"
    yield "with `mercore.hookimpl`. Each returns classes, never instances."
    for kind, base in KINDS.items():
        hook = getattr(hookspecs, f"{kind}s")
        signature = str(inspect.signature(hook)).replace("'", "")
        yield from ("", f"## {kind}s", "", inspect.getdoc(hook) or "", "")
        yield from ("```python", f"from mercore import {base.__name__}", "", "")
        yield from (f"def {kind}s{signature}: ...", "```")


SUITES: Mapping[str, type] = {
    "encoders": testing.EncoderTests,
    "preprocessors": testing.PreprocessorTests,
    "fusions": testing.FusionTests,
    "ensembles": testing.EnsembleTests,
}


def checks() -> Iterator[str]:
    """Yield what each check of mercore.testing says of itself."""
    yield from ("# Checks", "")
    yield "What the suites of `mercore.testing` check, why, and how to cure a failure."
    yield "[Testing a plugin](../testing.md) says how to use them."
    for kinds, checks in groupby(_checks(), lambda found: found[0]):
        whose = " and ".join(kinds) if kinds != [*SUITES] else "all components"
        yield from ("", f"## {whose.capitalize()}")
        for _, name, check in checks:
            text = (inspect.getdoc(check) or "").replace("``", "`")
            said = re.sub(r"^(Why|Cure): ", r"**\1:** ", text, flags=re.MULTILINE)
            yield from ("", f"### {name}", "", said)


def _checks() -> Iterator[tuple[list[str], str, object]]:
    """Yield each check: the kinds that have it, its name, itself."""
    for base in dict.fromkeys(base for suite in SUITES.values() for base in suite.__mro__[::-1]):
        kinds = [kind for kind, suite in SUITES.items() if issubclass(suite, base)]
        yield from ((kinds, name, own) for name, own in vars(base).items() if name[:5] == "test_")


def registry() -> Iterator[str]:
    """Yield the keys of registry.yaml."""
    whole = schema()
    yield from ("# Keys of registry.yaml", "")
    yield "`mer schema` prints the same as a JSON Schema, for editors. Names match"
    yield "`[a-z][a-z0-9_]*`; a key that is not listed is an error."
    yield from _keys("The file", whole)
    for name, title in TITLES.items():
        yield from _keys(title, whole["$defs"][name])


TITLES = {
    "StreamUse": "A stream",
    "FeatureUse": "A feature",
    "Branch": "A branch",
    "Use": "A fusion or an ensemble",
    "Mining": "Mining",
}
NAMES = {
    "StreamUse": "[a stream](#a-stream)",
    "FeatureUse": "[a feature](#a-feature)",
    "Branch": "[a branch](#a-branch)",
    "Use": "[a component](#a-fusion-or-an-ensemble)",
    "Mining": "[mining](#mining)",
    "JsonValue": "any value",
}


def _keys(title: str, model: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| key | type | default | is |", "|---|---|---|---|")
    for name, key in model["properties"].items():
        default = f"`{in_yaml(key['default'])}`" if "default" in key else ""
        needed = "required" if name in model.get("required", ()) else default
        yield _row(f"`{name}`", type_in_words(key, NAMES), needed, key.get("description", ""))


if __name__ == "__main__":
    for file, content in pages().items():
        (FOLDER / file).parent.mkdir(exist_ok=True)
        (FOLDER / file).write_text(content, encoding="utf-8")
