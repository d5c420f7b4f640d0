"""The command that begins a plugin: new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import print_json
from mercore.cli.options import JSON, with_options

if TYPE_CHECKING:
    from pathlib import Path

    from mercore.scaffold import Scaffold

KINDS = ("encoder", "preprocessor", "fusion", "ensemble")
INPUTS = ("audio", "video", "text")
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause")

_OPTIONS = [
    click.argument("kind", type=click.Choice(KINDS)),
    click.argument("name"),
    click.option("--into", default=".", metavar="DIR", help="Where its folder goes."),
    click.option(
        "--input",
        "input_",
        type=click.Choice(INPUTS),
        help="What an encoder reads; else audio.",
    ),
    click.option(
        "--licence",
        type=click.Choice(LICENCES),
        default="MIT",
        help="The licence of your code.",
    ),
    click.option("--author", metavar="NAME", help="Who holds the copyright; else git's user.name."),
]


@click.command()
@with_options([*_OPTIONS, JSON])
def new(
    kind: str,
    name: str,
    into: str,
    input_: str | None,
    licence: str,
    author: str | None,
    as_json: bool,
) -> None:
    """Write a new plugin that works, to change.

    A folder mercore-NAME with a distribution: a small component of the kind, its tests, a README,
    a licence and a workflow for GitHub. Nothing that is there is overwritten.
    """
    if input_ and kind != "encoder":
        raise click.UsageError(f"--input: only an encoder has it, found kind {kind!r}")
    from mercore import scaffold

    chosen = scaffold.component_name(name)
    plan = scaffold.Scaffold(
        kind=kind,
        name=chosen,
        author=author or scaffold.git_author() or "The authors",
        licence=licence,
        input=input_ or "audio",
    )
    about = _about(plan, scaffold.create(plan, into))
    if chosen != name:
        click.echo(f"{name!r} became {chosen!r}: the name of a component has no dashes", err=True)
    print_json(about) if as_json else _print(about)


def _about(plan: Scaffold, folder: Path) -> dict[str, Any]:
    import shlex

    return {
        "folder": str(folder),
        "kind": plan.kind,
        "name": plan.name,
        "distribution": plan.distribution,
        "package": plan.package,
        "class": plan.cls,
        "licence": plan.licence,
        "author": plan.author,
        "files": list(plan.files()),
        "next": [f"cd {shlex.quote(str(folder))}", 'pip install -e ".[test]"', "pytest"],
        "registry": plan.registry_lines(),
    }


def _print(about: dict[str, Any]) -> None:
    click.echo(f"{about['folder']}: the {about['kind']} {about['name']!r}, {about['licence']}")
    for path in about["files"]:
        click.echo(f"  {path}")
    click.echo("\nNext:")
    for command in about["next"]:
        click.echo(f"  {command}")
    click.echo("\nThen in registry.yaml:")
    for line in about["registry"].splitlines():
        click.echo(f"  {line}")
