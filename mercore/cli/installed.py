"""What `mer plugins` reports of what is installed: as JSON values, and as tables for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mercore.cli.show import Json
from mercore.cli.tables import print_grid
from mercore.errors import PluginError
from mercore.markup import Grid

if TYPE_CHECKING:
    from mercore.catalogue import Installed
    from mercore.components import Component
    from mercore.media import Spec
    from mercore.options import Option
    from mercore.plugins import Plugins, Provided
    from mercore.weights import Weights


_WIDEST = 100  # columns of running text


def listed(plugins: Plugins, kind: str | None, *, times: bool) -> Json:
    """Return the components of a kind, or all; what is broken and what is in conflict."""
    from mercore.catalogue import installed
    from mercore.imports import costs_of

    found = [installed(plugins, p) for p in plugins if kind in (None, p.kind)]
    costs = costs_of(one.provided.plugin for one in found) if times else {}
    return {
        "components": [
            _component(one) | {"import_seconds": costs[one.provided.plugin].seconds}
            if times
            else _component(one)
            for one in found
        ],
        "broken": [asdict(broken) for broken in plugins.broken],
        "conflicts": plugins.conflicts(),
    }


def _component(one: Installed) -> Json:
    from mercore.weights import state_of, weights_of

    weights = weights_of(one.component)
    return {
        "kind": one.provided.kind,
        "name": one.component.name,
        "distribution": one.provided.distribution,
        "version": one.provided.version,
        "about": one.about,
        "inputs": {
            name: {**_spec(spec), "optional": name in one.optional}
            for name, spec in one.inputs.items()
        },
        "output": one.output and _spec(one.output),
        "dim": one.dim,
        "weights": state_of(weights),
        "checkpoints": [_weights(each) for each in weights],
    }


def _spec(spec: Spec) -> Json:
    from mercore.streams import medium_name

    return {"medium": medium_name(spec), **asdict(spec)}


def _weights(weights: Weights) -> Json:
    return asdict(weights)


def print_listed(about: Json) -> None:
    """Print the components as a table, what is broken below it."""
    rows = [
        (
            row["name"],
            row["kind"],
            _flow(row),
            str(row["dim"] or ""),
            f"{row['distribution']} {row['version']}",
            row["weights"],
            *([milliseconds(row["import_seconds"])] if "import_seconds" in row else []),
        )
        for row in about["components"]
    ]
    columns = ("name", "kind", "reads", "dim", "from", "weights", "import, ms")
    shown = len(rows[0]) if rows else len(columns)
    print_grid(Grid(columns[:shown], rows, left=shown))
    for broken in about["broken"]:
        place = f" ({broken['frame']})" if broken["frame"] else ""
        click.echo(
            f"set aside: plugin {broken['plugin']!r} of {broken['distribution']}: "
            f"{broken['reason']}{place}"
        )
    for conflict in about["conflicts"]:
        click.echo(f"conflict: {conflict}")


def _flow(row: Json) -> str:
    """Return ``audio, text`` or, of a preprocessor, ``audio → text``."""
    needed = [name for name, spec in row["inputs"].items() if not spec["optional"]]
    media = dict.fromkeys(row["inputs"][name]["medium"] for name in needed if name != "id")
    reads = ", ".join(media or needed)
    return f"{reads} → {row['output']['medium']}" if row["output"] else reads


def milliseconds(seconds: float | None) -> str:
    """Return whole milliseconds; empty where nothing could be measured."""
    return "" if seconds is None else f"{1000 * seconds:.0f}"


def shown(plugins: Plugins, provided: Provided) -> Json:
    """Return all there is to say of a component."""
    from mercore.catalogue import installed
    from mercore.components import MediaComponent
    from mercore.options import options_of

    one = installed(plugins, provided)
    component = provided.component
    trainings = component.tunings if issubclass(component, MediaComponent) else {}
    return {
        **_component(one),
        "module": component.__module__,
        "doc": "\n\n".join(one.paragraphs),
        "options": _options(options_of(component)),
        "trainings": {aim: _options(options_of(kind)) for aim, kind in trainings.items()},
        "source": one.source,
        "licence": component.licence,
        "citation": _bibtex(component),
        "yaml": one.yaml,
        "problem": one.problem,
    }


def _options(options: Sequence[Option]) -> list[Json]:
    return [
        {
            "name": option.name,
            "type": option.type.replace("`", ""),
            "limits": dict(option.limits),
            "required": option.required,
            "default": option.default,
            "about": option.about.replace("``", "`"),
        }
        for option in options
    ]


def _bibtex(component: type[Component]) -> str:
    """Return its citation in one form; as it is where it is no BibTeX, which the doctor tells."""
    from mercore.citations import cited

    try:
        return "\n\n".join(map(str, cited(component)))
    except PluginError:
        return component.citation.strip()


def print_shown(about: Json) -> None:
    """Print a component: its docstring, its inputs and options, its weights, what to cite."""
    click.echo(f"{about['name']}: {about['kind']} of {about['distribution']} {about['version']}")
    click.echo(f"\n{about['doc']}\n")
    for name, spec in about["inputs"].items():
        asked = [f"{key} {spec[key]}" for key in ("rate", "count") if spec.get(key)]
        optional = ["optional"] if spec["optional"] else []
        click.echo(f"input {name}: " + ", ".join([spec["medium"], *asked, *optional]))
    if about["output"]:
        click.echo(f"output: {about['output']['medium']}")
    if about["dim"]:
        click.echo(f"dim: {about['dim']}")
    click.echo(f"module: {about['module']}\n")
    _print_options(about["options"])
    _print_weights(about)
    for aim, options in about["trainings"].items():
        click.echo(f"Options of `mer {aim} {about['name']} --with KEY=VALUE`:\n")
        _print_options(options)
    if about["citation"]:
        click.echo(f"To cite:\n\n{about['citation']}\n")
    click.echo(f"In registry.yaml:\n\n{about['yaml']}")
    if about["problem"]:
        click.echo(f"\nIt needs options: {about['problem']}")


def _print_options(options: Sequence[Json]) -> None:
    from rich.console import Console

    from mercore.options import in_yaml

    width = min(Console().width, _WIDEST)
    for option in options:
        default = "" if option["required"] else f"; default {in_yaml(option['default'])}"
        click.echo(f"{option['name']}: {option['type']}{default or '; must be given'}")
        if option["about"]:
            indent = "    "
            click.echo(
                textwrap.fill(
                    option["about"], width, initial_indent=indent, subsequent_indent=indent
                )
            )
    click.echo("" if options else "no options\n")


def _print_weights(about: Json) -> None:
    click.echo(f"weights: {about['weights']}")
    for weights in about["checkpoints"]:
        cure = f": {weights['cure']}" if weights["cure"] else ""
        click.echo(f"  {weights['checkpoint'] or 'weights'}, {weights['state']}{cure}")
    if about["licence"]:
        of = "weights" if about["checkpoints"] else "program it runs"
        click.echo(f"licence of the {of}: {about['licence']}")
    click.echo()
