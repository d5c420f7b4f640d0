"""The commands that show or tidy what there is: check, status, show, prune, schema."""

from __future__ import annotations

from typing import Any

import click

from mercore.cli.main import manifest_there, open_project, print_json
from mercore.cli.options import EXPERIMENT, JSON, ROOT, STORED, with_options


@click.command()
@with_options([*EXPERIMENT, ROOT, JSON])
def check(registry: str, manifest: str, root: str | None, as_json: bool) -> None:
    """Check the registry and the manifest.

    Loads no weights. Without --manifest, manifest.csv is checked where there is one.
    """
    from mercore.cli import show, tables
    from mercore.manifest import Manifest
    from mercore.plugins import Plugins
    from mercore.registry import Registry
    from mercore.resolve import resolve

    pipeline = resolve(Registry.read(registry), Plugins())
    there = manifest_there(manifest)
    samples = None
    if there:
        samples = Manifest.read(there, pipeline.classes, bare=pipeline.bare, root=root)
        pipeline.check_media(samples)
    about = show.checked(pipeline, samples)
    print_json(about) if as_json else tables.print_checked(about)


@click.command()
@with_options([*STORED, JSON])
def status(as_json: bool, **files: Any) -> None:
    """Show what the store holds.

    Whether a clip has changed since is seen by `mer extract`, not here.
    """
    from mercore.cli import show, tables

    about = show.stored(open_project(files))
    print_json(about) if as_json else tables.print_stored(about)


@click.command("show")
@click.argument("name")
@click.argument("ids", nargs=-1, metavar="[SAMPLE]...")
@with_options([*STORED, JSON])
def show_samples(name: str, ids: tuple[str, ...], as_json: bool, **files: Any) -> None:
    """Show what is stored of the samples of a stream or feature.

    The words of a text, what the component noted (a confidence, a decision, a warning), or why it
    failed; of all samples, or of those named.
    """
    from mercore.cli import tables
    from mercore.status import stored_samples

    project = open_project(files)
    about = stored_samples(project.pipeline, project.store, name, ids or project.ids)
    print_json(about) if as_json else tables.print_samples(about)


@click.command()
@with_options([*STORED, JSON])
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def prune(yes: bool, dry_run: bool, as_json: bool, **files: Any) -> None:
    """Delete what the registry does not describe.

    Another registry that shares the store may use it still.
    """
    from mercore.cli import show, tables
    from mercore.status import superseded

    project = open_project(files)
    stale = superseded(project.pipeline, project.store)
    about = show.stale(stale, project.store)
    print_json(about) if as_json else tables.print_stale(about)
    if not stale or dry_run:
        return
    if not yes:
        click.confirm(f"Delete these {len(stale)}?", abort=True, err=True)
    for collection in stale:
        project.store.remove(collection)
    click.echo(f"deleted {len(stale)}", err=True)


@click.command()
@click.option(
    "--plugins", "with_plugins", is_flag=True, help="Describe every installed component too."
)
@click.option("--out", metavar="FILE", help="Write it there instead.")
def schema(with_plugins: bool, out: str | None) -> None:
    """Print the JSON Schema of registry.yaml.

    Editors complete and check the file with it.
    """
    from mercore import registry
    from mercore.plugins import Plugins
    from mercore.schema import plugin_schema, write_schema

    content = plugin_schema(Plugins()) if with_plugins else registry.schema()
    if out is None:
        print_json(content)
        return
    click.echo(f"Schema: {write_schema(out, content)}", err=True)
