"""The command that makes clips worse: corrupt."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from mercore.cli.main import SOME_FAILED, limits_of, print_json
from mercore.cli.options import JSON, LIMITS, with_options
from mercore.errors import RegistryError

_CONDITIONS = ("clean", "noise", "voices", "rooms")


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with a mark between them."""

    def __init__(self, name: str, mark: str, kind: type[int] | type[float], most: int) -> None:
        self.name = name
        self._mark, self._kind, self._most = mark, kind, most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(self._kind(part) for part in str(value).split(self._mark))
        except ValueError:
            self.fail(f"{value!r}: expected numbers with {self._mark!r} between them", param, ctx)
        if len(numbers) > self._most:
            self.fail(f"{value!r}: expected {self._most} numbers at most", param, ctx)
        return numbers


def _decibels(name: str, default: tuple[float, float], about: str) -> Any:
    return click.option(name, nargs=2, type=float, default=default, metavar="LOW HIGH", help=about)


_WHERE = [
    click.option("--manifest", default="manifest.csv", metavar="FILE", help="The samples."),
    click.option("--out", required=True, metavar="DIR", help="Where the copies go."),
    click.option(
        "--split", "splits", multiple=True, metavar="NAME", help="Only this split; repeat for more."
    ),
]
_WHAT = [
    click.option("--noise", metavar="DIR", help="Add noise from this folder."),
    click.option("--voices", metavar="DIR", help="Add voices in the background."),
    click.option("--rooms", metavar="DIR", help="Impulse responses for the voices, or: simulated."),
    _decibels("--snr", (5.0, 10.0), "dB between clip and noise."),
    _decibels("--voices-snr", (10.0, 30.0), "dB between clip and voices."),
    click.option(
        "--mixture",
        type=_Numbers("mixture", ":", float, len(_CONDITIONS)),
        metavar="C:N:V[:R]",
        help="Shares of clean, noise, voices, rooms; else no clean ones.",
    ),
    click.option(
        "--blur",
        type=_Numbers("blur", ",", int, 4),
        metavar="1,2,4",
        help="Blur by a factor drawn from these.",
    ),
    click.option("--seed", default=0, metavar="N", help="Another draws anew for every clip."),
    click.option(
        "--threads", default=2, type=click.IntRange(1), metavar="N", help="Clips at once."
    ),
]


@click.command()
@with_options([*_WHERE, *_WHAT, *LIMITS, JSON])
def corrupt(
    manifest: str, out: str, splits: tuple[str, ...], threads: int, as_json: bool, **what: Any
) -> None:
    """Write noisy copies of the clips.

    With a manifest of the copies and a record of what was added to each. Needs mercore-noise. What
    is done and unchanged is not done again; rows of other splits keep their clips.
    """
    limits = limits_of(what)
    blur = _blur(what)
    noise = _noise(**what)
    if noise is None and blur is None:
        raise click.UsageError("nothing to add; give --noise, --voices, --rooms or --blur")
    from mercore.cli import show, tables
    from mercore.corrupt import corrupt as write_copies
    from mercore.corrupt import read_manifest
    from mercore.progress import Bars

    samples = read_manifest(manifest)
    try:
        with Bars() as bars:
            done = write_copies(
                samples,
                out,
                noise=noise,
                blur=blur,
                splits=splits,
                threads=threads,
                limits=limits,
                watch=bars,
            )
    except RegistryError as error:
        raise RegistryError(_in_options(str(error))) from error
    about = show.corrupted(done)
    print_json(about) if as_json else tables.print_corrupted(about)
    if done.stale:
        click.echo(_stale(out, done.stale), err=True)
    if done.failed:
        sys.exit(SOME_FAILED)


def _in_options(message: str) -> str:
    """Return what a component says about ``with.NAME`` as about the option it was given by."""

    def option(found: re.Match[str]) -> str:
        name = "blur" if found["name"] == "factors" else found["name"].replace("_", "-")
        part = "" if found["part"].isdecimal() else found["part"]
        return f"--{name}: " + (part and f"{part}: ")

    return re.sub(r"(\w+: )?with(\.|: )(?P<name>\w+)\.?(?P<part>\w*): ", option, message)


def _stale(out: str, files: Sequence[str]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return (
        f"Warning: {out} has clips of an earlier run that are not in its manifest any more: "
        f"{', '.join(files[:3])}{more}; delete them, or give each run its own --out"
    )


def _blur(what: dict[str, Any]) -> dict[str, Any] | None:
    factors = what.pop("blur")
    return {"factors": list(factors), "seed": what["seed"]} if factors else None


def _noise(mixture: tuple[float, ...] | None, **options: Any) -> dict[str, Any] | None:
    """Return the options of add_noise, or None where none of its folders is given."""
    given = {name: value for name, value in options.items() if value is not None}
    folders = [name for name in _CONDITIONS if name in given]
    if not folders:
        return None
    added = [name for name in folders if name != "rooms"] or folders
    shares = dict(zip(_CONDITIONS, mixture, strict=False)) if mixture else dict.fromkeys(added, 1.0)
    return {**given, "mixture": shares}
