"""The commands that train encoders themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mercore.cli.main import open_project, print_json, print_markup
from mercore.cli.options import (
    JSON,
    LIMITS,
    MACHINE,
    MARKUP,
    ROOT,
    STORED,
    WATCHED,
    Size,
    with_options,
)
from mercore.cli.watching import watching


def _pairs(read: Callable[[str], Any]) -> Callable[..., dict[str, Any]]:
    """Return the callback of an option that is given as ``KEY=VALUE``, many times."""

    def parse(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pair in given:
            name, sign, value = pair.partition("=")
            if not sign or not name.strip():
                raise click.BadParameter(f"{pair!r}: expected KEY=VALUE, such as lr=1e-4")
            if name.strip() in found:
                raise click.BadParameter(f"{name.strip()!r} is given twice")
            found[name.strip()] = read(value)
        return found

    return parse


def _value(text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"{text!r}: is no YAML value") from error
    # YAML 1.1 takes 1e-4, without a point, for text.
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _values(text: str) -> list[Any]:
    values = _value(f"[{text}]")
    return [_number(value) if isinstance(value, str) else value for value in values]


WITH = click.option(
    "--with", "options", multiple=True, callback=_pairs(_value), metavar="KEY=VALUE",
    help="An option of the training, such as lr=1e-4; many times.",
)  # fmt: skip
VARY = click.option(
    "--vary", multiple=True, callback=_pairs(_values), metavar="KEY=A,B",
    help="Train with each of these values, and put them side by side.",
)  # fmt: skip
TRAINED = click.option(
    "--out", metavar="DIR", help="The folder of the training; else runs/tune/FEATURE."
)


PLAN = [
    click.option("--plan", is_flag=True, help="Print the memory it takes, and train nothing."),
    click.option(
        "--memory", type=Size(), metavar="SIZE", help="Of a device, for --plan; else the GPU's."
    ),
]


@click.command()
@click.argument("feature")
@click.option("--fold", default=0, metavar="N", help="The fold that is held out.")
@with_options(
    [WITH, VARY, *PLAN, TRAINED, *STORED, *MACHINE, *LIMITS, *WATCHED, ROOT, JSON, *MARKUP]
)
def tune(
    feature: str,
    fold: int,
    options: dict[str, Any],
    vary: dict[str, list[Any]],
    plan: bool,
    memory: int | None,
    out: str | None,
    as_json: bool,
    markup: str | None,
    **machine: Any,
) -> None:
    """Train the encoder of a feature on the labels of the train split.

    FEATURE is a feature of the registry, or an encoder that one feature uses. One fold of the
    cross-validation is held out; the best state on it is saved in the layout of the encoder's
    published checkpoints. What is done is not done again, and an interrupted training goes on.

    A stream of transcripts, or its recogniser, is trained on the texts of the manifest with noise
    added, and then on its own confident transcripts of other samples.
    """
    from mercore.cli import tuned
    from mercore.cli.tables import print_grid
    from mercore.tuning.compare import compare
    from mercore.tuning.processes import rank
    from mercore.tuning.tune import planned
    from mercore.tuning.tune import tune as trained

    place = out or f"runs/tune/{feature}"
    with watching(machine, machine["registry"]) as watch:
        project = open_project(machine, watch, create=True)
        if plan:
            about = planned(project, feature, options, memory)
        elif vary:
            rows = compare(project, feature, options, vary, place, fold=fold)
        else:
            about = trained(project, feature, options, place, fold=fold)
    if rank():  # one process prints
        return
    if as_json:
        print_json(rows if vary and not plan else about)
    elif plan:
        tuned.print_plan(about)
    elif vary:
        grid = tuned.grid_of(rows)
        print_markup(grid, markup) if markup else print_grid(grid)
    elif "stream" in about:
        tuned.print_recogniser(about)
    else:
        tuned.print_tuned(about)
