"""The command that finds damaged files of the store."""

from __future__ import annotations

import sys
from typing import Any

import click

from mercore.cli.main import SOME_FAILED, open_project, print_json
from mercore.cli.options import (
    JSON,
    LIMITS,
    MACHINE,
    ROOT,
    STORED,
    WATCHED,
    WORKERS,
    with_options,
)
from mercore.cli.watching import watching


@click.command()
@click.argument("names", nargs=-1, metavar="[FEATURE]...")
@click.option(
    "--dry-run", is_flag=True, help="Only look; exit status 3 where something is damaged."
)
@with_options([*STORED, *MACHINE, *WORKERS, *LIMITS, *WATCHED, ROOT, JSON])
def repair(names: tuple[str, ...], dry_run: bool, as_json: bool, **options: Any) -> None:
    """Find damaged files of the store, and extract anew what was in them.

    Reads every byte and compares it with its checksum, of all that the store holds or of the
    streams and features named. Only the samples that are damaged are dropped. Others may read and
    write the store meanwhile.
    """
    from mercore.cli import show
    from mercore.repair import repair as repair_project
    from mercore.store import Store

    root = None if dry_run else Store.mend(options["store"], endpoint=options["endpoint"])
    with watching(options, options["registry"]) as watch:
        project = open_project(options, watch)
        try:
            found = repair_project(project, names, dry_run=dry_run)
        except KeyboardInterrupt:
            click.echo("`mer extract` makes anew what was dropped already", err=True)
            raise
    about = show.repaired(found, root)
    print_json(about) if as_json else _print(about, dry_run)
    left = found.damage if dry_run else [*found.imported, *found.unknown]
    if left or any(outcome.failed for outcome in found.extracted):
        sys.exit(SOME_FAILED)


def _print(about: dict[str, Any], dry_run: bool) -> None:
    """Print a line a damaged file, then what came of it."""
    from mercore.cli import tables

    for row in about["damaged"]:
        click.echo(f"{row['file']}: {row['found']}; {_lost(row['samples'])}")
    if not about["damaged"]:
        click.echo("nothing is damaged")
    elif dry_run:
        click.echo("`mer repair` drops what is damaged, and extracts it again")
    if about["extracted"]:
        tables.print_extracted(about["extracted"])
    for name in about["imported"]:
        click.echo(f"{name}: imported, so it cannot be computed: run `mer import` again")
    for name in about["unknown"]:
        click.echo(f"{name}: not of this registry: the one that describes it can extract it")


def _lost(samples: list[str] | None) -> str:
    from mercore.errors import few

    if samples is None:
        return "which samples were in it cannot be told"
    if not samples:
        return "no sample is lost"
    return f"{len(samples)} sample{'s' if len(samples) > 1 else ''} lost: {few(samples)}"
