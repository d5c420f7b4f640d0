"""``mer``: parse, one library call, print.

Everything but click is imported inside the commands: ``mer --help`` imports no plugin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mercore import __version__
from mercore.errors import MercoreError
from mercore.options import FILES, JSON, MACHINE, RETRY, with_options

if TYPE_CHECKING:
    from mercore.extract import Outcome
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


def _project(
    files: dict[str, str], machine: dict[str, Any], watch: Any = None, *, create: bool = False
) -> Project:
    from mercore.extract import Machine
    from mercore.project import Project

    return Project.open(**files, machine=Machine(**machine), watch=watch, create=create)


def _split(options: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    names = ("registry", "manifest", "store", "out")
    files = {name: options.pop(name) for name in names if name in options}
    return files, options


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _exit(outcomes: Sequence[Outcome]) -> None:
    if any(outcome.failed for outcome in outcomes):
        sys.exit(SOME_FAILED)


@main.command()
@with_options([*FILES[:2], JSON])
def check(registry: str, manifest: str, as_json: bool) -> None:
    """Check the registry and the manifest.

    Loads no weights. Without --manifest, manifest.csv is checked where there is one.
    """
    import os

    from mercore import show, tables
    from mercore.manifest import Manifest
    from mercore.pipeline import Pipeline
    from mercore.plugins import Plugins
    from mercore.registry import Registry

    pipeline = Pipeline.resolve(Registry.read(registry), Plugins())
    given = click.get_current_context().get_parameter_source("manifest")
    wanted = given is not click.core.ParameterSource.DEFAULT or os.path.exists(manifest)
    samples = Manifest.read(manifest, pipeline.classes) if wanted else None
    if samples:
        pipeline.check_media(samples)
    about = show.checked(pipeline, samples)
    _print_json(about) if as_json else tables.print_checked(about)


@main.command()
@JSON
def plugins(as_json: bool) -> None:
    """List the installed components.

    Plugins that could not be used are listed with the reason.
    """
    from mercore import show, tables
    from mercore.plugins import Plugins

    found = Plugins()
    about = show.installed(found)
    _print_json(about) if as_json else tables.print_installed(about)


@main.command()
@click.argument("names", nargs=-1, metavar="[FEATURE]...")
@with_options([*FILES[:3], *MACHINE, RETRY, JSON])
def extract(names: tuple[str, ...], retry_failed: bool, as_json: bool, **options: Any) -> None:
    """Extract features into the store.

    All of them, or those named and what they read. What is done is not done again.
    """
    from mercore import show, tables
    from mercore.progress import Bars

    with Bars() as bars:
        project = _project(*_split(options), bars, create=True)
        outcomes = project.extract(names, retry_failed=retry_failed)
    about = show.extracted(outcomes)
    _print_json(about) if as_json else tables.print_extracted(about)
    _exit(outcomes)


@main.command()
@with_options([*FILES[:3], JSON])
def status(as_json: bool, **files: str) -> None:
    """Show what the store holds.

    Whether a clip has changed since is seen by `mer extract`, not here.
    """
    from mercore import show, tables

    about = show.stored(_project(files, {}))
    _print_json(about) if as_json else tables.print_stored(about)


@main.command()
@with_options([*FILES[:3], JSON])
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def prune(yes: bool, dry_run: bool, as_json: bool, **files: str) -> None:
    """Delete what the registry does not describe.

    Another registry that shares the store may use it still.
    """
    from mercore import show, tables
    from mercore.status import superseded

    project = _project(files, {})
    stale = superseded(project.pipeline, project.store)
    about = show.stale(stale, project.store)
    _print_json(about) if as_json else tables.print_stale(about)
    if not stale or dry_run:
        return
    if not yes:
        click.confirm(f"Delete these {len(stale)}?", abort=True, err=True)
    for collection in stale:
        project.store.remove(collection)
    click.echo(f"deleted {len(stale)}", err=True)


@main.command()
@with_options([*FILES, *MACHINE, JSON])
def train(as_json: bool, **options: Any) -> None:
    """Train the branches.

    By cross-validation; those that are up to date stay as they are.
    """
    from mercore import show, tables
    from mercore.progress import Bars

    with Bars() as bars:
        project = _project(*_split(options), bars)
        trained = project.train()
    about = show.trained(project.branch_results(), trained)
    _print_json(about) if as_json else tables.print_trained(about)


@main.command()
@with_options([*FILES, JSON])
def ensemble(as_json: bool, **files: str) -> None:
    """Let the branches vote and write predictions.csv."""
    from mercore import show, tables

    project = _project(files, {})
    about = show.decided(project, project.ensemble())
    _print_json(about) if as_json else tables.print_decided(about)


@main.command()
@with_options([*FILES, JSON])
def report(as_json: bool, **files: str) -> None:
    """Write report.html and report.json of a trained run."""
    from mercore import tables

    content, page = _project(files, {}).report()
    _print_json(content) if as_json else tables.print_report(content, page)


@main.command()
@with_options([*FILES, *MACHINE, RETRY, JSON])
def run(retry_failed: bool, as_json: bool, **options: Any) -> None:
    """Extract, train, vote and report.

    What is done and unchanged is not done again.
    """
    from dataclasses import replace

    from mercore import show, tables
    from mercore.progress import Bars

    with Bars() as bars:
        project = _project(*_split(options), bars, create=True)
        project.check_trainable()  # before the hours that extraction may take
        outcomes = project.extract(retry_failed=retry_failed)
    extracted = show.extracted(outcomes)
    try:
        with Bars() as bars:
            trained = replace(project, watch=bars).train()
        content, page = project.report()
    finally:  # also when the training fails; not before, a closed pipe would end the run here
        if not as_json:
            tables.print_extracted(extracted)
    if as_json:
        _print_json({"extracted": extracted, "trained": trained, "report": content})
    else:
        tables.print_report(content, page)
    _exit(outcomes)


@main.command()
def schema() -> None:
    """Print the JSON Schema of registry.yaml.

    Editors complete and check the file with it.
    """
    from mercore.registry import schema as registry_schema

    _print_json(registry_schema())
