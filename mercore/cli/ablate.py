"""The command that puts combinations of features side by side."""

from __future__ import annotations

import re
from typing import Any

import click

from mercore.cli.main import open_project, print_json, print_markup
from mercore.cli.options import ENGINE, FILES, JSON, MACHINE, MARKUP, with_options


def _sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Return the least and the most features at once, of ``2`` or ``1-3``."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)(?:-([1-9]\d*))?", value.strip())
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise click.BadParameter(f"{value!r}: expected a number such as 2, or a range such as 1-3")
    return int(found[1]), int(found[2] or found[1])


@click.command()
@click.argument("features", nargs=-1, metavar="[FEATURE]...")
@click.option("--only", multiple=True, metavar="A+B", help="This combination; may be repeated.")
@click.option(
    "--size", "--sizes", "sizes", callback=_sizes, metavar="N[-M]", help="So many features at once."
)
@click.option("--fusion", metavar="NAME", help="The fusion, in place of the registry's common one.")
@with_options([*FILES, *MACHINE, *ENGINE, JSON, *MARKUP])
def ablate(
    features: tuple[str, ...],
    only: tuple[str, ...],
    sizes: tuple[int, int] | None,
    fusion: str | None,
    as_json: bool,
    markup: str | None,
    **options: Any,
) -> None:
    """Train every combination of features and put them side by side.

    Of all features, or of those named. By the folds and the seed of the registry, without
    pseudo-labels; what is trained and unchanged is not trained again. The best by cross-validation
    comes first.
    """
    from mercore.ablation import FILE
    from mercore.ablation import ablate as train
    from mercore.cli import grids, tables
    from mercore.combinations import all_combinations, sums
    from mercore.progress import Bars

    if only and (features or sizes):
        raise click.UsageError("--only names the combinations: give no FEATURE or --size with it")
    with Bars() as bars:
        project = open_project(options, bars)
        pipeline = project.pipeline
        chosen = sums(pipeline, only) if only else all_combinations(pipeline, features, sizes)
        about, trained = train(project, chosen, fusion)
    if as_json:
        print_json({**about, "trained": trained})
    elif markup:
        print_markup(grids.ablation(about), markup)
    else:
        tables.print_ablated(about, project.folder.path / FILE)
