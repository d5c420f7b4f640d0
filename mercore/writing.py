"""Manifests and registries that mercore writes for its users."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from mercore.errors import RunError
from mercore.manifest import Sample
from mercore.table import MEDIA


def refuse_existing(paths: Iterable[Path], cure: str) -> None:
    """Raise RunError, naming the files of `paths` that are there and the `cure`."""
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise RunError(f"{' and '.join(there)}: there already; {cure}")


def manifest_text(samples: Sequence[Sample], folder: Path) -> str:
    """Return the manifest as csv, for a file in `folder`; columns without a value are left out.

    A file below the folder is named from there, another one by its absolute path.
    """
    base = os.path.join(os.path.abspath(folder), "")
    rows = [
        {"id": sample.id, "split": sample.split, "label": sample.label or ""}
        | {name: sample.media.get(name, "").removeprefix(base) for name in MEDIA}
        | dict(sample.extra)
        for sample in samples
    ]
    given = dict.fromkeys(name for row in rows for name, value in row.items() if value)
    order = dict.fromkeys(["id", "split", "label", *(name for name in MEDIA if name in given)])
    text = io.StringIO(newline="")
    fields = list(order | given)
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flow(value: object) -> str:
    """Return the value as YAML on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
