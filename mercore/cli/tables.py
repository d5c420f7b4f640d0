"""What the commands report, as tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import JsonValue
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mercore.cli import grids, show
from mercore.cli.main import size
from mercore.cli.show import Json
from mercore.markup import Grid

_REASONS = 5
_SYNTHETIC = "Synthetic data: these numbers show that the pipeline learns, nothing else."
_WHOLE = 10_000  # columns: none of our rows is longer


def print_checked(about: Json) -> None:
    """Print the components and the branches as tables."""
    table = _table("name", "kind", "uses", "inputs", "distribution")
    for row in about["components"]:
        inputs = ", ".join(
            name if name == stream else f"{name}: {stream}"
            for name, stream in row["inputs"].items()
        )
        _add(table, row["name"], row["kind"], row["uses"], inputs, row["distribution"])
    _print(table)
    for name, features in about["branches"].items():
        _say(f"branch {name} = {' + '.join(features)}")
    if about["manifest"]:
        found = about["manifest"]
        splits = ", ".join(f"{count} {split}" for split, count in found["splits"].items())
        _say(f"{found['path']}: {found['samples']} samples ({splits})")
    else:
        _say("no manifest.csv here: samples are not checked")
    _say(f"{about['registry']}: no mistakes")


def print_extracted(about: Sequence[Json]) -> None:
    """Print a table of what was done; failures with their reasons below it."""
    columns = ("name", "uses", "samples", "new", "absent", "failed", "seconds", "samples/s")
    table = _table(*columns, "slowest")
    for row in about:
        rate = row["extracted"] / row["seconds"] if row["seconds"] else None
        _add(
            table, row["name"], row["uses"], row["samples"], row["extracted"], row["absent"] or "",
            row["failed"] or "",
            f"{row['seconds']:.1f}" if row["seconds"] else "",
            f"{rate:.1f}" if rate else "",
            row["slowest"],
        )  # fmt: skip
    _print(table)
    for line in show.faster(about):
        _say(line)
    for row in about:
        print_reasons(row["name"], row["failures"])


def print_reasons(name: str, failures: Sequence[Json]) -> None:
    """Print a line a reason: the samples it hit, and how many more."""
    for failure in failures[:_REASONS]:
        ids = failure["samples"]
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        _say(f"{name}: {', '.join(ids[:3])}{more} failed: {failure['reason']}")
    if len(failures) > _REASONS:
        _say(f"{name}: {len(failures) - _REASONS} more reasons; `mer status --json` lists all")


def print_stored(about: Json) -> None:
    """Print a table of the current features; what is superseded below it."""
    table = _table("name", "kind", "fingerprint", "dim", "done", "failed", "slowest")
    for row in about["current"]:
        done = f"{row['done']} of {row['samples']}"
        _add(
            table, row["name"], row["kind"], row["fingerprint"], row["dim"] or "", done,
            row["failed"] or "", row["slowest"],
        )  # fmt: skip
    _print(table)
    for line in show.faster(about["current"]):
        _say(line)
    for row in about["current"]:
        print_reasons(row["name"], row["failures"])
    for row in about["superseded"]:
        _say(f"superseded: {row['name']}, {row['samples']} samples, {size(row['bytes'])}")


def print_samples(about: Sequence[Json]) -> None:
    """Print one line a sample: its words, what was noted, or why it failed."""
    for row in about:
        noted = ", ".join(f"{key}: {_plain(value)}" for key, value in row["record"].items())
        said = [repr(row["text"])] if row.get("text") else []
        parts = [f"failed: {row['failed']}"] if row["failed"] else [*said, f"{row['rows']} rows"]
        _say(f"{row['id']}: " + "; ".join([*parts, *([noted] if noted else [])]))


def _plain(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def print_stale(about: Sequence[Json]) -> None:
    """Print what prune deletes."""
    for row in about:
        _say(f"{row['name']}: {row['samples']} samples, {size(row['bytes'])}")
    if not about:
        _say("nothing to delete: the registry describes all that the store holds")


def print_trained(about: Sequence[Json]) -> None:
    """Print one row a branch."""
    table = _table("branch", "features", "fusion", "WAF of the folds", "seconds", "")
    for row in about:
        folds = " ".join(f"{score:.3f}" for score in row["fold_waf"])
        note = "" if row["trained_now"] else "up to date"
        features = " + ".join(row["features"])
        _add(table, row["branch"], features, row["fusion"], folds, f"{row['seconds']:.1f}", note)
    _print(table)
    for row in about:
        if row["found"]:
            options = ", ".join(f"{name}: {_plain(value)}" for name, value in row["found"].items())
            _say(f"{row['branch']}: found by search, in the place of the registry's: {options}")


def print_mined(about: Json) -> None:
    """Print one row a round; the WAF is the ensemble's."""
    splits = list(about["rounds"][0]["waf"])
    table = _table(
        "round", "accepted", "left", *(f"WAF {grids.split_name(split)}" for split in splits)
    )
    for row in about["rounds"]:
        scores = [f"{row['waf'][split]:.4f}" for split in splits]
        accepted = sum(row["accepted"].values())
        _add(table, row["round"], accepted or "", row["left"], *scores)
    _print(table)
    _say(f"Pseudo-labels: {about['mined']}")


def print_decided(about: Json) -> None:
    """Print the counts and where the predictions are."""
    for split, counts in about["decided"].items():
        _say(f"{split}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    _say(f"Predictions: {about['predictions']}")


def print_report(report: Mapping[str, JsonValue], page: Path) -> None:
    """Print the scores and the path of the HTML report."""
    print_grid(grids.branch_scores(report))
    for warning in cast(list[str], report["warnings"]):
        _say(f"Warning: {warning}")
    if report["synthetic"]:
        _say(_SYNTHETIC)
    _say(f"Predictions: {page.with_name('predictions.csv')}")
    _say(f"Report: {page}")


def print_ablated(about: Json, file: Path) -> None:
    """Print one row a combination of features, what each feature is, and where it is kept."""
    print_grid(grids.ablation(about))
    for name, feature in about["features"].items():
        reads = " and ".join(feature["reads"])
        made = [stream for stream in feature["upstream"] if stream not in feature["reads"]]
        origin = f", made from {', '.join(made)}" if made else ""
        _say(f"{name}: {feature['uses']}, {feature['dim']} values of {reads}{origin}")
    _say("CV: cross-validated; vs best: the difference in it; p: adjusted for all rows (Holm)")
    if about["synthetic"]:
        _say(_SYNTHETIC)
    _say(f"Ablation: {file}; `mer report` shows it too")


def print_predicted(about: Sequence[Json]) -> None:
    """Print one line a clip: the label, the probabilities, each branch's vote, what is missing."""
    for clip in about:
        missing = [f"no {name}: {reason}" for name, reason in clip["missing"].items()]
        if clip["label"] is None:
            _say("; ".join([f"{clip['id']}: not predicted", *missing]))
            continue
        table = " ".join(f"{name} {value:.2f}" for name, value in clip["probabilities"].items())
        votes = " ".join(f"{name}={vote['label']}" for name, vote in clip["branches"].items())
        _say("; ".join([f"{clip['id']}: {clip['label']} ({table}) {votes}", *missing]))


def print_corrupted(about: Json) -> None:
    """Print what was added how often, what failed, and where the copies are."""
    _say(f"{about['written']} clips written, {about['unchanged']} unchanged")
    if about["conditions"]:
        counts = [f"{name} {count}" for name, count in about["conditions"].items()]
        _say(f"audio: {', '.join(counts)}")
    if about["blur"]:
        counts = [f"by {factor} {count}" for factor, count in about["blur"].items()]
        _say(f"blur: {', '.join(counts)}")
    print_reasons("clips", about["failures"])
    _say(f"Record: {about['record']}")
    _say(f"Manifest: {about['manifest']}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_grid(grid: Grid) -> None:
    """Print the table; in a narrow terminal words stay whole where they can."""
    table = _table(*grid.columns)
    for row in grid.rows:
        _add(table, *row)
    console = Console()
    if console.is_terminal:
        for column, width in zip(table.columns, grids.widths(grid, console.width), strict=True):
            column.width = width
    _print(table)


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WHOLE  # what reads it wants a row in one line
    console.print(table)


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(escape(text))
