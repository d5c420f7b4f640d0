"""What `mer plugins doctor` and `mer plugins test` found: as JSON values, and as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mercore.cli.installed import milliseconds
from mercore.cli.show import Json
from mercore.cli.tables import print_grid
from mercore.markup import Grid

if TYPE_CHECKING:
    from mercore.conformance import Verdict
    from mercore.doctor import Checkup


def examined(checkup: Checkup) -> Json:
    """Return what the doctor found."""
    return {
        "healthy": checkup.healthy,
        "imports": [
            {"module": module, "seconds": cost.seconds, "heavy": list(cost.heavy)}
            for module, cost in checkup.costs.items()
        ],
        "findings": [asdict(finding) for finding in checkup.findings],
    }


def print_examined(about: Json) -> None:
    """Print what importing each plugin costs, then what was found and how to cure it."""
    rows = [
        (row["module"], milliseconds(row["seconds"]), _judgement(row)) for row in about["imports"]
    ]
    print_grid(Grid(("module", "import, ms", ""), rows, left=1))
    for finding in about["findings"]:
        click.echo(f"{finding['severity']}: {finding['subject']}: {finding['message']}")
        click.echo(f"  {finding['cure']}")
    counts = [
        f"{number} {severity}{'s' if number > 1 else ''}"
        for severity in ("error", "warning", "note")
        if (number := sum(finding["severity"] == severity for finding in about["findings"]))
    ]
    click.echo(", ".join(counts) or "nothing is wrong")


def _judgement(row: Json) -> str:
    from mercore.imports import SLOW

    if row["heavy"]:
        return f"imports {', '.join(row['heavy'])}"
    return "slow" if (row["seconds"] or 0.0) > SLOW else "good"


def judged(verdict: Verdict) -> Json:
    """Return what the checks of a component came to."""
    return {
        "kind": verdict.kind,
        "name": verdict.name,
        "passed": verdict.passed,
        "checks": [asdict(check) for check in verdict.checks],
    }


def print_judged(about: Json) -> None:
    """Print one row a check; below them the messages of those that failed."""
    rows = [
        (_words(check["name"]), check["outcome"], f"{check['seconds']:.2f}", _reason(check))
        for check in about["checks"]
    ]
    print_grid(Grid(("check", "verdict", "seconds", ""), rows, left=1))
    for check in about["checks"]:
        if check["outcome"] == "failed":
            click.echo(f"\n{check['name']} failed:\n{check['message']}")
    outcomes = [check["outcome"] for check in about["checks"]]
    counts = (f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes))
    click.echo(f"\n{about['kind']} {about['name']}: " + ", ".join(counts))


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _reason(check: Json) -> str:
    return check["message"] if check["outcome"] in ("skipped", "xfailed") else ""
