"""The group of all commands, and what they share beside their options."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from mercore import __version__
from mercore.errors import MercoreError

if TYPE_CHECKING:
    from mercore.limits import Limits
    from mercore.machine import Machine
    from mercore.markup import Grid
    from mercore.project import Project

SOME_FAILED = 3
INTERRUPTED = 130


class _Group(click.Group):
    """Prints a MercoreError as one line; a traceback only with --debug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted: what is done is kept; run it again to go on", err=True)
            ctx.exit(INTERRUPTED)
        except MercoreError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "MERCORE",
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="mer")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Extract features, train fusion branches and vote: multimodal emotion recognition.

    Exit status: 0 all done, 1 an error, 2 wrong usage, 3 finished but some samples failed,
    130 interrupted.
    Each option may be set by the environment: MERCORE_RUN_STORE is --store of `mer run`.
    """


def open_project(options: dict[str, Any], watch: Any = None, *, create: bool = False) -> Project:
    """Return the project that the options of a command describe."""
    from mercore.project import Project

    names = ("registry", "manifest", "store", "endpoint", "out", "root")
    files = {name: options.pop(name) for name in names if name in options}
    return Project.open(**files, machine=machine_of(options), watch=watch, create=create)


def machine_of(options: dict[str, Any]) -> Machine:
    """Return the machine that the options of a command describe, with its limits."""
    from mercore.machine import Machine

    limits = limits_of(options)
    return Machine(**options, limits=limits)


def limits_of(options: dict[str, Any]) -> Limits:
    """Return the limits among the options of a command, and take them out."""
    from mercore.limits import Limits

    names = [name for name in options if name.startswith("max_")]
    return Limits(**{name: options.pop(name) for name in names})


def manifest_there(manifest: str) -> str | None:
    """Return --manifest; None where it was not given and there is no such file."""
    source = click.get_current_context().get_parameter_source("manifest")
    default = source is click.core.ParameterSource.DEFAULT
    return None if default and not os.path.exists(manifest) else manifest


def size(count: int) -> str:
    """Return a number of bytes for people: kB below a MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(value: object) -> None:
    """Print the value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_markup(grid: Grid, markup: str) -> None:
    """Print the table as ``latex`` or ``markdown``."""
    from mercore.markup import latex, markdown

    click.echo({"latex": latex, "markdown": markdown}[markup](grid), nl=False)
