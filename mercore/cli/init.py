"""The command that starts a project: init."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import print_json
from mercore.cli.options import JSON

if TYPE_CHECKING:
    from mercore.initial import Initial
    from mercore.markup import Grid

FORMATS = (
    "auto", "plain", "mer2023", "mer2024", "mer2025", "mosi", "mosei", "ch-sims", "iemocap", "meld",
)  # fmt: skip


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--into", default=".", metavar="DIR", help="Where the files go.")
@click.option(
    "--format",
    "layout",
    default="auto",
    type=click.Choice(FORMATS),
    help="How DIR keeps clips and labels.",
)
@click.option("--labels", metavar="FILE", help="The label file, if not the usual one.")
@click.option("--classes", metavar="A,B,...", help="The labels in their order; else all there are.")
@click.option(
    "--features",
    default="default",
    metavar="NAMES",
    help="default, none, or encoders: whisper,hubert.",
)
@click.option("--trust-pickles", is_flag=True, help="Read an npz of dicts; no code of it is run.")
@click.option("--overwrite", is_flag=True, help="Replace manifest and registry.")
@JSON
def init(folder: str, classes: str | None, features: str, as_json: bool, **options: Any) -> None:
    """Write manifest and registry for a folder of clips.

    It knows the layouts of common data sets, and any folder with a subfolder a class, or with a csv
    of names and labels. Says what it found, and what is missing.
    """
    from mercore.initial import initialise

    done = initialise(
        folder,
        classes=_names(classes or ""),
        features=None if features == "default" else _names(features.removeprefix("none")),
        **options,
    )
    about = _about(done)
    print_json(about) if as_json else _print(about)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _about(done: Initial) -> dict[str, Any]:
    return {
        "layout": done.layout.name,
        "classes": list(done.found.classes),
        "splits": {split: dict(counts) for split, counts in done.counts.items()},
        "labels_without_clip": list(done.found.lost),
        "notes": list(done.found.notes),
        "features": list(done.features),
        "manifest": str(done.manifest),
        "registry": str(done.registry),
        "schema": str(done.schema),
    }


def _print(about: dict[str, Any]) -> None:
    from mercore.cli.tables import print_grid
    from mercore.errors import few

    click.echo(f"Layout: {about['layout']}")
    print_grid(_counts(about["splits"], about["classes"]))
    if lost := about["labels_without_clip"]:
        click.echo(f"Labels without a clip, left out: {len(lost)} ({few(lost)})")
    for note in about["notes"]:
        click.echo(f"Note: {note}")
    total = sum(sum(counts.values()) for counts in about["splits"].values())
    click.echo(f"Manifest: {about['manifest']} ({total} samples)")
    click.echo(f"Registry: {about['registry']} ({', '.join(about['features']) or 'no features'})")
    click.echo(f"Schema for editors: {about['schema']}")
    click.echo(f"Next: {_next(about)}")


def _counts(splits: dict[str, dict[str, int]], classes: Sequence[str]) -> Grid:
    """Return one row a split: how many samples of each class, and without a label."""
    from mercore.markup import Grid

    rows = [
        (
            split,
            *(str(counts.get(name) or "") for name in (*classes, "")),
            f"{sum(counts.values())}",
        )
        for split, counts in splits.items()
    ]
    return Grid(("split", *classes, "no label", "all"), rows)


def _next(about: dict[str, Any]) -> str:
    from pathlib import Path

    into = str(Path(about["registry"]).parent)
    begin = [] if into == "." else [f"cd {into}"]
    if not about["features"]:
        begin.append("write features and branches into registry.yaml")
    return ", then ".join([*begin, "mer check", "mer run"])
