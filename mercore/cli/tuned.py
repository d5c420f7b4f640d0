"""What trainings of encoders came to, as tables for people."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from mercore.cli.main import size
from mercore.cli.show import Json
from mercore.cli.tables import print_grid
from mercore.markup import Grid

_SHOWN = 5


def print_tuned(about: Json) -> None:
    """Print the scores of a training, and how its checkpoint is used."""
    rows = [
        ("WAF, held-out fold", f"{about['waf']:.4f} ({_interval(about)})"),
        ("accuracy", f"{about['accuracy']:.4f}"),
        ("samples", f"{about['samples']}"),
        ("trained parameters", f"{about['trained']:,} of {about['parameters']:,}"),
        ("best step", f"{about['best_step']} of {about['steps']}"),
    ]
    print_grid(Grid(("training", about["feature"]), rows))
    failed = about["failed"]
    for sample, reason in list(failed.items())[:_SHOWN]:
        click.echo(f"{sample} failed: {reason}")
    if len(failed) > _SHOWN:
        click.echo(f"{len(failed) - _SHOWN} more failed; see failed.jsonl")
    options = ", ".join(f"{name}: {_yaml(value)}" for name, value in about["with"].items())
    click.echo(
        f"In registry.yaml: {about['feature']}: {{uses: {about['uses']}, with: {{{options}}}}}"
    )


def print_plan(about: Json) -> None:
    """Print the memory of each strategy."""
    columns = ("strategy", "weights", "gradients", "optimiser", "activations", "sum", "at once")
    rows = [
        (
            f"{'FSDP' if need['sharded'] else 'DDP'} on {need['devices']}"
            if need["devices"] > 1
            else "one device",
            *(size(need[name]) for name in ("weights", "gradients", "optimiser", "activations")),
            size(need["total"]),
            f"{need['at_once']}",
            *(() if need["fits"] is None else (f"{need['fits']}",)),
        )
        for need in about["needs"]
    ]
    fits = () if about["needs"][0]["fits"] is None else ("fits at most",)
    print_grid(Grid((*columns, *fits), rows))
    click.echo(
        f"{about['trained']:,} of {about['parameters']:,} parameters are trained; for samples of "
        "10 s, 16 frames or 100 characters, without what libraries take (1 to 2 GiB on a GPU)"
    )


def grid_of(rows: Sequence[Json]) -> Grid:
    """Return one row a variation."""
    names = list(rows[0]["varied"])
    columns = (*names, "trained", "WAF", "95% interval", "accuracy", "WAF of its features")
    return Grid(columns, [_row(row) for row in rows], left=len(names))


def _row(row: Json) -> tuple[str, ...]:
    probe = row["probe"]
    return (
        *(_yaml(value) for value in row["varied"].values()),
        f"{row['trained']:,}",
        f"{row['waf']:.4f}",
        _interval(row),
        f"{row['accuracy']:.4f}",
        f"{probe['waf']:.4f} ({probe['low']:.3f} to {probe['high']:.3f})",
    )


def _interval(scores: Json) -> str:
    return f"{scores['waf_low']:.3f} to {scores['waf_high']:.3f}"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
