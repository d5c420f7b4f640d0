"""The commands that exchange data with others: import, export, submit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import SOME_FAILED, open_project, print_json
from mercore.cli.options import ENDPOINT, FILES, JSON, STORED, with_options

if TYPE_CHECKING:
    from mercore.mertools import Export, Import
    from mercore.submission import Submission


@click.group("import")
def import_() -> None:
    """Take over what another program computed.

    Writes a manifest, a registry and the store, so that `mer train` can begin.
    """


@click.group()
def export() -> None:
    """Write what another program reads."""


_WHAT = [
    click.option(
        "--labels", required=True, metavar="FILE", help="label-6way.npz, or csv: name, discrete."
    ),
    click.option("--transcripts", metavar="FILE", help="csv: name, chinese, english."),
    click.option(
        "--classes", metavar="A,B,...", help="The labels in their order; else those of MER2023 on."
    ),
    click.option("--fusion", default="attention", metavar="NAME", help="What the branch uses."),
    click.option(
        "--trust-pickles", is_flag=True, help="Read an npz of dicts; no code of it is run."
    ),
    click.option(
        "--skip-missing", is_flag=True, help="Leave out labelled samples without features."
    ),
]
_WHERE = [
    click.option("--manifest-out", default="manifest.csv", metavar="FILE", help="The samples."),
    click.option("--registry-out", default="registry.yaml", metavar="FILE", help="The features."),
    click.option("--store", default="mer.zarr", metavar="PLACE", help="The store of their values."),
    ENDPOINT,
    click.option("--overwrite", is_flag=True, help="Replace manifest and registry."),
    click.option(
        "--threads", default=2, type=click.IntRange(1), metavar="N", help="Threads that read files."
    ),
]


@import_.command("mertools")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@with_options([*_WHAT, *_WHERE, JSON])
def import_mertools(
    folders: tuple[str, ...], classes: str | None, as_json: bool, **options: Any
) -> None:
    """Import features of MERTools.

    A DIR is NAME-UTT or NAME-FRA with one .npy a sample, or a folder of such folders. A sample that
    lacks a file, or whose file is broken, fails alone.
    """
    from pathlib import Path

    from mercore import mertools
    from mercore.progress import Bars

    to = mertools.Destination(
        Path(options.pop("manifest_out")),
        Path(options.pop("registry_out")),
        options.pop("store"),
        options.pop("endpoint"),
        options.pop("overwrite"),
    )
    known = tuple(part.strip() for part in classes.split(",")) if classes else mertools.CLASSES
    with Bars() as bars:
        done = mertools.import_mertools(folders, to=to, classes=known, watch=bars, **options)
    about = _imported(done)
    print_json(about) if as_json else _print_imported(about)
    if any(feature.failed for feature in done.features):
        sys.exit(SOME_FAILED)


@export.command("mertools")
@click.argument("directory", metavar="DIR")
@click.option(
    "--feature", "features", multiple=True, metavar="NAME", help="Only this one; repeat for more."
)
@with_options([*STORED, JSON])
def export_mertools(directory: str, features: tuple[str, ...], as_json: bool, **files: Any) -> None:
    """Write features as MERTools reads them.

    Below DIR, which is new or empty: features/NAME-UTT and NAME-FRA, the labels as npz and csv, the
    transcripts. Samples without a label are in the csv alone.
    """
    from mercore import mertools
    from mercore.progress import Bars

    project = open_project(files)
    with Bars() as bars:
        done = mertools.export_mertools(project, directory, features, watch=bars)
    about = _exported(done)
    print_json(about) if as_json else _print_exported(about)
    if any(feature.failed for feature in done.features):
        sys.exit(SOME_FAILED)


@click.command()
@click.option(
    "--format",
    "challenge",
    required=True,
    type=click.Choice(["mer2024", "mer2025"]),
    help="The challenge.",
)
@click.option("--split", metavar="NAME", help="Only this split; else all but train.")
@click.option("--candidates", metavar="FILE", help="csv with a column name: these, in this order.")
@click.option("--out-file", default="submission.csv", metavar="FILE", help="The answer.")
@with_options([*FILES, JSON])
def submit(
    challenge: str,
    split: str | None,
    candidates: str | None,
    out_file: str,
    as_json: bool,
    **files: Any,
) -> None:
    """Write the answer to a challenge.

    The branches vote anew; each candidate is in the file once, or there is no file.
    """
    if split and candidates:
        raise click.UsageError("give --split or --candidates, not both")
    from mercore.submission import submit as write_answer

    project = open_project(files)
    project.ensemble()
    done = write_answer(
        project.folder.path, challenge, out_file, split=split, candidates=candidates
    )
    about = _submitted(done, challenge)
    print_json(about) if as_json else _print_submitted(about)


def _imported(done: Import) -> dict[str, Any]:
    from mercore.cli import show

    return {
        "manifest": str(done.destination.manifest),
        "registry": str(done.destination.registry),
        "store": str(done.destination.store),
        "splits": dict(done.splits),
        "features": [
            {
                "name": feature.name,
                "source": feature.source,
                "fingerprint": feature.fingerprint,
                "dim": feature.dim,
                "frames": feature.frames,
                "samples": feature.samples,
                "new": feature.new,
                "failed": len(feature.failed),
                "failures": show.reasons(feature.failed),
            }
            for feature in done.features
        ],
        "notes": list(done.notes),
        "seconds": round(done.seconds, 3),
    }


def _print_imported(about: dict[str, Any]) -> None:
    from mercore.cli import tables

    for row in about["features"]:
        kept = "vectors and sequences" if row["frames"] else "vectors"
        lost = f", {row['failed']} failed" if row["failed"] else ""
        click.echo(
            f"{row['name']}: {kept} of {row['samples']} samples, dim {row['dim']}, "
            f"{row['new']} new{lost}"
        )
        tables.print_reasons(row["name"], row["failures"])
    for note in about["notes"]:
        click.echo(f"Note: {note}")
    splits = ", ".join(f"{count} {split}" for split, count in about["splits"].items())
    click.echo(f"Manifest: {about['manifest']} ({splits})")
    click.echo(f"Registry: {about['registry']}; next: mer train")


def _exported(done: Export) -> dict[str, Any]:
    return {
        "path": str(done.path),
        "features": [
            {
                "name": feature.name,
                "folders": [str(folder) for folder in feature.folders],
                "samples": feature.samples,
                "failed": feature.failed,
            }
            for feature in done.features
        ],
        "labels": str(done.labels),
        "labelled": dict(done.labelled),
        "transcripts": str(done.transcripts) if done.transcripts else None,
    }


def _print_exported(about: dict[str, Any]) -> None:
    for row in about["features"]:
        lost = f"; {row['failed']} have no values and no file" if row["failed"] else ""
        click.echo(f"{row['name']}: {row['samples']} samples{lost}")
        for folder in row["folders"]:
            click.echo(f"  {folder}")
    counts = ", ".join(f"{count} {split}" for split, count in about["labelled"].items())
    click.echo(f"Labels: {about['labels']} ({counts or 'none'})")
    if about["transcripts"]:
        click.echo(f"Transcripts: {about['transcripts']}")


def _submitted(done: Submission, challenge: str) -> dict[str, Any]:
    return {
        "format": challenge,
        "answer": str(done.path),
        "names": sum(done.counts.values()),
        "labels": dict(done.counts),
        "notes": list(done.notes),
    }


def _print_submitted(about: dict[str, Any]) -> None:
    counts = ", ".join(f"{label} {count}" for label, count in about["labels"].items())
    click.echo(f"{about['names']} names: {counts}")
    for note in about["notes"]:
        click.echo(f"Note: {note}")
    click.echo(f"Answer: {about['answer']}")
