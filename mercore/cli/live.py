"""``mer status --watch``: the store, looked at again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mercore.cli.main import duration
from mercore.cli.signals import Stopped
from mercore.live import Observer, Standing
from mercore.project import Project

_WHOLE = 10_000  # columns: none of our rows is longer


def watch(project: Project, pause: float, times: int | None, *, as_json: bool) -> None:
    """Show how far the store is every `pause` seconds, so many times or until Ctrl-C.

    In place on a terminal, else one block a look; with `as_json` one line of JSON.
    """
    console = Console()
    observer = Observer(project.pipeline, project.manifest, project.store)
    looks = _looks(observer, pause, times)
    try:
        if as_json:
            for standings in looks:
                click.echo(json.dumps(_about(standings), ensure_ascii=False))
        elif console.is_terminal:
            _show(console, looks)
        else:
            console.width = _WHOLE
            for standings in looks:
                console.print(_table(standings))
    except KeyboardInterrupt as stop:
        if isinstance(stop, Stopped) and stop.name != "SIGINT":
            raise


def _looks(observer: Observer, pause: float, times: int | None) -> Iterator[list[Standing]]:
    for number in count(1):
        yield observer.look()
        if number == times:
            return
        time.sleep(pause)


def _show(console: Console, looks: Iterator[list[Standing]]) -> None:
    with Live(console=console, auto_refresh=False) as screen:
        for standings in looks:
            screen.update(_table(standings), refresh=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _about(standings: Sequence[Standing]) -> dict[str, Any]:
    """Return one look as JSON."""
    return {
        "time": _now(),
        "streams_and_features": [
            {
                "name": each.name,
                "kind": each.kind,
                "samples": each.samples,
                "done": each.done,
                "failed": each.failed,
                "remaining": each.remaining,
                "rate": round(each.rate, 3),
                "seconds_left": None if each.seconds is None else round(each.seconds, 1),
                "writers": {writer: round(rate, 3) for writer, rate in each.writers.items()},
            }
            for each in standings
        ],
    }


def _table(standings: Sequence[Standing]) -> Table:
    """Return one row a stream or feature, and one below it a writer where there are several."""
    table = Table(box=None, pad_edge=False, header_style="bold", title=_now(), title_justify="left")
    for column in ("name", "done", "failed", "remaining", "samples/s", "time left", "writers"):
        table.add_column(column, overflow="fold")
    for each in standings:
        left = "" if each.seconds is None or not each.remaining else duration(each.seconds)
        rate = f"{each.rate:.1f}" if each.rate else ""
        table.add_row(
            escape(each.name), f"{each.done} of {each.samples}", str(each.failed or ""),
            str(each.remaining or ""), rate, left, str(len(each.writers) or ""),
        )  # fmt: skip
        for writer, speed in each.writers.items() if len(each.writers) > 1 else ():
            table.add_row(f"  {writer}", "", "", "", f"{speed:.1f}", "", "")
    return table
