"""The command that says what a change costs: diff."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import duration, manifest_there, print_json, size
from mercore.cli.options import ENDPOINT, JSON, MANIFEST, STORE, with_options
from mercore.cli.reasons import changed, why

if TYPE_CHECKING:
    from mercore.comparison import Comparison
    from mercore.difference import Difference
    from mercore.measured import Estimate
    from mercore.plan import Extracting, Plan
    from mercore.plan import Mining as Rounds

Json = dict[str, Any]


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@with_options([MANIFEST, STORE, ENDPOINT])
@click.option("--out", metavar="DIR", help="Where B is run; else B, or A, or runs/default.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where something differs.")
@JSON
def diff(
    first: str, second: str, manifest: str, exit_code: bool, as_json: bool, **files: Any
) -> None:
    """Say what B computes otherwise than A, and what it takes.

    Each is a registry, or a run folder with the one it was run with. What `mer run` would do for B
    with the manifest, the store and the run folder that there are: samples to compute, branches to
    train, what is kept, and how long it takes, by what the same took before. Nothing is written.
    """
    from pathlib import Path

    from mercore.comparison import Side, compare

    there = manifest_there(manifest)
    done = compare(Side(Path(first)), Side(Path(second)), manifest=there, **files)
    about = _compared(done, first, second, there, files["store"])
    print_json(about) if as_json else _print(about)
    if exit_code and done.differs:
        sys.exit(1)


def _compared(done: Comparison, first: str, second: str, manifest: str | None, store: str) -> Json:
    return {
        "first": first,
        "second": second,
        "differs": done.differs,
        "parts": [_part(part) for part in done.parts],
        "manifest": manifest,
        "store": store,
        "stored": done.stored,
        "out": str(done.out),
        "problem": done.problem,
        "plan": (done.plan and not done.problem and _plan(done.plan)) or None,
        "superseded": [
            {
                "name": collection.identity.folder,
                "samples": len(collection.entries()),
                "bytes": count,
            }
            for collection, count in done.superseded
        ],
    }


def _part(part: Difference) -> Json:
    reasons = [changed(change) for change in part.why]
    return {"kind": part.kind, "name": part.name, "status": part.status, "why": reasons}


def _plan(plan: Plan) -> Json:
    known = [time.seconds for time in plan.times if time.seconds is not None]
    return {
        "extracted": [_extracting(part) for part in plan.extracting],
        "branches": [
            {
                "name": part.name,
                "train": part.train,
                "why": [changed(change) for change in part.why],
                **_time(part.time, part.train),
            }
            for part in plan.branches
        ],
        "left": list(plan.left),
        "mining": plan.mining and _rounds(plan.mining),
        "seconds": round(sum(known), 3),
        "unknown": len(plan.times) - len(known),
    }


def _extracting(part: Extracting) -> Json:
    return {
        "name": part.node.name,
        "kind": part.node.kind,
        "fingerprint": part.node.fingerprint,
        "compute": part.samples,
        "kept": part.kept,
        **_time(part.time, part.samples > 0),
    }


def _rounds(mining: Rounds) -> Json:
    return {
        "rounds": mining.rounds,
        "kept": mining.kept,
        "first": mining.first,
        "branches": list(mining.branches),
        **_time(mining.time, mining.first is not None),
    }


def _time(time: Estimate, needed: bool) -> Json:
    if not needed:
        return {"seconds": 0.0, "measured": None}
    seconds = None if time.seconds is None else round(time.seconds, 3)
    return {"seconds": seconds, "measured": time.source}


def _print(about: Json) -> None:
    _print_parts(about)
    if about["problem"]:
        click.echo(f"\n`mer run` would not begin: {about['problem']}")
    elif about["plan"]:
        click.echo(f"\nTo run {about['second']} in {about['out']}:")
        _print_plan(about["plan"])
    else:
        click.echo("no manifest.csv here: what it takes to run is not known")
    if not about["stored"]:
        click.echo(f"no store at {about['store']}: nothing is computed yet")
    for row in about["superseded"]:
        click.echo(f"superseded: {row['name']}, {row['samples']} samples, {size(row['bytes'])}")


def _print_parts(about: Json) -> None:
    from mercore.cli.tables import print_grid
    from mercore.markup import Grid

    rows = [
        (row["kind"], row["name"], row["status"], "; ".join(map(why, row["why"])))
        for row in about["parts"]
        if row["status"] != "same"
    ]
    if not rows:
        click.echo("no difference in what is computed")
        return
    print_grid(Grid(("part", "name", "", "why"), rows))
    same = Counter(row["kind"] for row in about["parts"] if row["status"] == "same")
    if same:
        counts = [f"{count} {_plural(kind, count)}" for kind, count in same.items()]
        click.echo(f"same: {', '.join(counts)}")


def _plural(kind: str, count: int) -> str:
    if count == 1 or kind in ("results", "mining"):
        return kind
    return "branches" if kind == "branch" else f"{kind}s"


def _print_plan(plan: Json) -> None:
    from mercore.cli.tables import print_grid
    from mercore.markup import Grid

    columns = ("part", "name", "to do", "kept", "time", "measured")
    print_grid(Grid(columns, list(_rows(plan))))
    click.echo(_total(plan))
    for row in plan["branches"]:
        if row["why"]:
            click.echo(f"{row['name']} is trained again: {'; '.join(map(why, row['why']))}")
    if plan["left"]:
        click.echo(f"kept in the run folder, but not used: {', '.join(plan['left'])}")


def _total(plan: Json) -> str:
    todo = [row for row in (*plan["extracted"], *plan["branches"]) if row["measured"]]
    if not todo and not (plan["mining"] and plan["mining"]["measured"]):
        return "nothing to do"
    if not plan["seconds"]:
        return "how long it takes is not known: nothing like it was measured"
    more = f"; {plan['unknown']} of them not counted" if plan["unknown"] else ""
    return f"about {duration(plan['seconds'])}, one after another{more}"


def _rows(plan: Json) -> Iterator[tuple[str, ...]]:
    for row in plan["extracted"]:
        todo = f"{row['compute']} samples" if row["compute"] else ""
        yield row["kind"], row["name"], todo, f"{row['kept']} samples", *_cells(row)
    for row in plan["branches"]:
        todo, kept = ("train", "") if row["train"] else ("", "trained")
        yield "branch", row["name"], todo, kept, *_cells(row)
    if mining := plan["mining"]:
        rounds = f"rounds {mining['first']} to {mining['rounds']} at most"
        todo = rounds if mining["first"] else ""
        yield "mining", "", todo, f"{mining['kept']} rounds", *_cells(mining)


def _cells(row: Json) -> tuple[str, str]:
    """Return the time and where it was measured; nothing where there is nothing to do."""
    if row["measured"] is None:
        return "", ""
    return "unknown" if row["seconds"] is None else duration(row["seconds"]), row["measured"]
