"""The commands that write features as files: export parquet, npz, npy, hdf5."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import SOME_FAILED, open_project, print_json, size
from mercore.cli.options import JSON, STORED, with_options

if TYPE_CHECKING:
    from mercore.exports import Exported

_FORMATS = {
    "parquet": "Write features as one Parquet file.\n\n"
    "A row a sample: id, split, label, and a list of numbers a feature. Needs mercore[export].",
    "npz": "Write features as one .npz of numpy.\n\n"
    "ids, labels, splits, and a matrix a feature, in one order; nothing is pickled.",
    "npy": "Write features as a folder of .npy files.\n\n"
    "A matrix a feature; ids.csv has the samples in their order.",
    "hdf5": "Write features as one HDF5 file.\n\n"
    "A data set a feature; ids, labels and splits beside them. Needs mercore[export].",
}
_WHAT = [
    click.option("--to", required=True, metavar="PATH", help="The file, or folder, to write."),
    click.option("--frames", is_flag=True, help="Write the sequences too."),
    click.option("--split", metavar="NAME", help="Only this split."),
    click.option(
        "--dtype", default="float32", type=click.Choice(["float32", "float16"]), help="Of values."
    ),
    click.option(
        "--missing",
        default="error",
        type=click.Choice(["error", "nan", "drop"]),
        help="A sample that lacks a feature: stop, write NaN, or leave it out.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace an earlier export."),
]


def _command(name: str, about: str) -> click.Command:
    @click.command(name, help=about)
    @click.argument("names", nargs=-1, metavar="[FEATURE]...")
    @with_options([*_WHAT, *STORED, JSON])
    def command(**options: Any) -> None:
        _export(name, **options)

    return command


EXPORTS = [_command(name, about) for name, about in _FORMATS.items()]
"""The commands of the group `export`, beside `mer export mertools`."""


def _export(
    format: Any,
    names: tuple[str, ...],
    to: str,
    frames: bool,
    split: str | None,
    dtype: Any,
    missing: str,
    overwrite: bool,
    as_json: bool,
    **files: Any,
) -> None:
    from mercore.exports import export as write
    from mercore.progress import Bars

    project = open_project(files)
    with Bars() as bars:
        done = write(
            project.features.select(split=split),
            to,
            format,
            names,
            frames=frames,
            dtype=dtype,
            missing="raise" if missing == "error" else missing,  # type: ignore[arg-type]
            overwrite=overwrite,
            watch=bars,
        )
    about = _exported(done)
    print_json(about) if as_json else _print_exported(about)
    if done.failed:
        sys.exit(SOME_FAILED)


def _exported(done: Exported) -> dict[str, Any]:
    from mercore.cli import show

    return {
        "path": str(done.path),
        "format": done.format,
        "samples": done.samples,
        "dropped": done.dropped,
        "splits": dict(done.splits),
        "bytes": done.bytes,
        "features": [
            {
                "name": feature.name,
                "fingerprint": feature.fingerprint,
                "dim": feature.dim,
                "missing": len(feature.missing),
                "reasons": show.reasons(feature.missing),
            }
            for feature in done.features
        ],
    }


def _print_exported(about: dict[str, Any]) -> None:
    from mercore.cli import tables

    for row in about["features"]:
        lost = f"; {row['missing']} samples have no values" if row["missing"] else ""
        click.echo(f"{row['name']}: dim {row['dim']}{lost}")
        tables.print_reasons(row["name"], row["reasons"])
    splits = ", ".join(f"{count} {split}" for split, count in about["splits"].items())
    left_out = f"; {about['dropped']} left out" if about["dropped"] else ""
    click.echo(f"{about['samples']} samples ({splits}){left_out}")
    click.echo(f"{about['path']}: {about['format']}, {size(about['bytes'])}")
