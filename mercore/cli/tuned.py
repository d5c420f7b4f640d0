"""What trainings of encoders came to, as tables for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

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
    ]
    if "left_out" in about:
        rows.append(("left out", _left_out(about)))
    _print_training(("training", about["feature"]), rows, about)
    click.echo(f"In registry.yaml: {about['feature']}: {_component(about)}")


def print_recogniser(about: Json) -> None:
    """Print the rounds of a recogniser's training, and how its checkpoint is used."""
    columns = ("round", "character error rate", "loss", "transcribed", "its own")
    before = ("before", f"{about['before']['error_rate']:.4f}", "", "", "")
    rows = [
        (
            f"{each['round']}{' (best)' if each['round'] == about['best_round'] else ''}",
            f"{each['error_rate']:.4f}",
            f"{each['losses'][-1]:.4f}",
            f"{about['train']}",
            f"{each['kept']} of {about['unlabelled']}" if each["round"] > 1 else "",
        )
        for each in about["rounds"]
    ]
    print_grid(Grid(columns, [before, *rows]))
    click.echo(f"The rounds ended: {about['ended']}")
    click.echo(f"{about['held_out']} utterances were held out")
    for reason, count in about["left_out"].items():
        click.echo(f"left out: {count} {reason}")
    if about["unknown"]:
        click.echo(f"The vocabulary lacks {''.join(list(about['unknown'])[:20])}")
    _print_failed(about["failed"])
    if about["error_rate"] >= about["before"]["error_rate"]:
        click.echo("The checkpoint that it began with is no worse: keep that one")
    click.echo(f"In registry.yaml: {about['stream']}: {_component(about)}")


def print_pretrained(about: Json) -> None:
    """Print what a pre-training came to, and how its checkpoint is used."""
    rows = [
        ("loss, held out", _number(about["loss"])),
        ("samples", f"{about['trained_on']} trained on, {about['held_out']} held out"),
        ("left out", _left_out(about)),
    ]
    _print_training(("pre-training", about["uses"]), rows, about)
    click.echo(f"In registry.yaml: {_component(about)}")


def _left_out(about: Json) -> str:
    """Return how many samples were not trained on, for each reason."""
    counts = about["left_out"].items()
    return ", ".join(f"{why} {count}" for why, count in counts if count) or "none"


def print_measured(about: Json) -> None:
    """Print what is usual among pictures."""
    usual = {name: found for name, found in about.items() if isinstance(found, dict)}
    if usual:
        parts = list(next(iter(usual.values())))
        rows = [(name, *(f"{found[part]:g}" for part in parts)) for name, found in usual.items()]
        print_grid(Grid(("percentile", *parts), rows))
    unfit = f"{about['unreadable']} of them unreadable, {about['without_a_face']} without a face"
    click.echo(f"{about['pictures']} pictures, {unfit}")


def print_reported(report: Json, page: Path) -> None:
    """Print what the trainings of a report came to, and the path of the page."""
    print_grid(grid_of_trainings(report))
    click.echo(f"Report: {page}")


def _print_training(head: tuple[str, str], rows: Sequence[tuple[str, str]], about: Json) -> None:
    """Print the rows, those that all trainings have, and what failed."""
    common = [
        ("trained parameters", f"{about['trained']:,} of {about['parameters']:,}"),
        ("best step", f"{about['best_step']} of {about['steps']}"),
    ]
    print_grid(Grid(head, [*rows, *common]))
    _print_failed(about["failed"])


def _print_failed(failed: Json) -> None:
    for sample, reason in list(failed.items())[:_SHOWN]:
        click.echo(f"{sample} failed: {reason}")
    if len(failed) > _SHOWN:
        click.echo(f"{len(failed) - _SHOWN} more failed; see metrics.json")


def _component(about: Json) -> str:
    """Return how the encoder of what was trained is declared."""
    options = ", ".join(f"{name}: {_yaml(value)}" for name, value in about["with"].items())
    return f"{{uses: {about['uses']}, with: {{{options}}}}}"


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


def grid_of_trainings(report: Json) -> Grid:
    """Return one row a training of a report."""
    columns = (
        "training",
        "steps",
        "loss",
        "WAF",
        "95% interval",
        "accuracy",
        "WAF of its features",
    )
    return Grid(columns, [_trained(one) for one in report["trainings"]])


def _trained(one: Json) -> tuple[str, ...]:
    scores, waf, probe = one["scores"], one["waf"], one["probe"]
    if not scores:
        last = one["log"][-1]["step"] if one["log"] else 0
        return one["name"], f"{last}, not finished", "", "", "", "", ""
    return (
        one["name"],
        f"{scores.get('steps', '')}",
        _number(scores["loss"]) if "loss" in scores else "",
        *((f"{waf['waf']:.4f}", _interval(scores), f"{waf['accuracy']:.4f}") if waf else ("",) * 3),
        f"{probe['waf']:.4f}" if probe else "",
    )


def _number(value: float | None) -> str:
    return "no number" if value is None else f"{value:.4f}"


def _interval(scores: Json) -> str:
    return f"{scores['waf_low']:.3f} to {scores['waf_high']:.3f}"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
