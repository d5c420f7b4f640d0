"""The commands that compute: extract, train, mine, ensemble, report, run, predict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import SOME_FAILED, machine_of, open_project, print_json, print_markup
from mercore.cli.options import (
    ENDPOINT,
    ENGINE,
    FILES,
    JSON,
    LIMITS,
    MACHINE,
    MARKUP,
    OUT,
    RETRY,
    ROOT,
    STORED,
    WATCHED,
    WORKERS,
    with_options,
)  # fmt: skip
from mercore.cli.watching import watching

if TYPE_CHECKING:
    from mercore.extraction import Outcome


def _exit(outcomes: Sequence[Outcome]) -> None:
    if any(outcome.failed for outcome in outcomes):
        sys.exit(SOME_FAILED)


@click.command()
@click.argument("names", nargs=-1, metavar="[FEATURE]...")
@with_options([*STORED, *MACHINE, *WORKERS, *LIMITS, *WATCHED, ROOT, RETRY, JSON])
def extract(names: tuple[str, ...], retry_failed: bool, as_json: bool, **options: Any) -> None:
    """Extract features into the store.

    All of them, or those named and what they read. What is done is not done again.
    """
    from mercore.cli import show, tables

    with watching(options, options["registry"]) as watch:
        project = open_project(options, watch, create=True)
        outcomes = project.extract(names, retry_failed=retry_failed)
    about = show.extracted(outcomes)
    print_json(about) if as_json else tables.print_extracted(about)
    _exit(outcomes)


@click.command()
@click.option(
    "--search",
    "draws",
    type=click.IntRange(2),
    metavar="N",
    help="First search each branch's options among N draws.",
)
@with_options([*FILES, *MACHINE, *ENGINE, *WATCHED, JSON])
def train(draws: int | None, as_json: bool, **options: Any) -> None:
    """Train the branches.

    By cross-validation; those that are up to date stay as they are. What --search finds is kept in
    the run folder (search.json) and holds for it until the registry declares the branch otherwise.
    """
    from mercore.cli import show, tables

    with watching(options, options["registry"]) as watch:
        project = open_project(options, watch)
        project = project.search(draws) if draws else project
        trained = project.train()
        results = project.first_results()
    about = show.trained(project, results, trained)
    print_json(about) if as_json else tables.print_trained(about)


@click.command()
@with_options([*FILES, *MACHINE, *ENGINE, *WATCHED, JSON])
def mine(as_json: bool, **options: Any) -> None:
    """Label unlabelled samples where the branches agree, and train on them.

    Round by round, as `mining:` of the registry says; what is done and unchanged is not done again.
    """
    from mercore.cli import show, tables

    with watching(options, options["registry"]) as watch:
        project = open_project(options, watch)
        project.check_minable()
        rounds = project.mine()
    about = show.mined(project, rounds)
    print_json(about) if as_json else tables.print_mined(about)


@click.command()
@with_options([*FILES, JSON])
def ensemble(as_json: bool, **files: Any) -> None:
    """Let the branches vote and write predictions.csv."""
    from mercore.cli import show, tables

    project = open_project(files)
    about = show.decided(project, project.ensemble())
    print_json(about) if as_json else tables.print_decided(about)


@click.command()
@click.argument("training", required=False)
@with_options([*FILES, JSON, *MARKUP])
def report(training: str | None, as_json: bool, markup: str | None, **files: Any) -> None:
    """Write report.html and report.json of a trained run.

    With --latex or --markdown, print the branches by splits for a paper. TRAINING is a folder of
    `mer tune` or `mer pretrain`: the report is that of the training then, with its curves.
    """
    from mercore.cli import grids, tables

    if training is not None:
        _report_training(training, as_json, markup)
        return
    content, page = open_project(files).report()
    if as_json:
        print_json(content)
    elif markup:
        print_markup(grids.branches_by_split(content), markup)
    else:
        tables.print_report(content, page)


def _report_training(folder: str, as_json: bool, markup: str | None) -> None:
    from mercore.cli import tuned
    from mercore.tuning.report import write_report

    content, page = write_report(folder)
    if as_json:
        print_json(content)
    elif markup:
        print_markup(tuned.grid_of_trainings(content), markup)
    else:
        tuned.print_reported(content, page)


@click.command()
@with_options([*FILES, *MACHINE, *WORKERS, *LIMITS, *WATCHED, ROOT, RETRY, JSON])
def run(retry_failed: bool, as_json: bool, **options: Any) -> None:
    """Extract, train, mine where the registry says so, vote and report.

    What is done and unchanged is not done again.
    """
    from mercore.cli import show, tables
    from mercore.running import run as run_project

    extracted: list[Any] = []
    try:
        with watching(options, options["registry"]) as watch:
            project = open_project(options, watch, create=True)
            done = run_project(
                project,
                retry_failed=retry_failed,
                extracted=lambda outcomes: extracted.extend(show.extracted(outcomes)),
            )
    finally:  # also when the training fails; not before, a closed pipe would end the run here
        if extracted and not as_json:
            tables.print_extracted(extracted)
    if as_json:
        print_json({"extracted": extracted, "trained": done.trained, "report": done.report.content})
    else:
        tables.print_report(*done.report)
        if len(done.rounds) > 1:
            tables.print_mined(show.mined(project, done.rounds))
    _exit(done.extracted)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--store", metavar="PLACE", help="Keep the features in this store.")
@with_options([ENDPOINT, OUT, *MACHINE, *LIMITS, *WATCHED, ROOT, RETRY, JSON])
def predict(
    files: tuple[str, ...],
    store: str | None,
    endpoint: str | None,
    out: str,
    root: str | None,
    retry_failed: bool,
    as_json: bool,
    **machine: Any,
) -> None:
    """Apply a trained run to new clips.

    One line a clip: the label, the probabilities and each branch's vote. Files with one stem are
    one clip, such as clip.mp4 and clip.txt (its words); a manifest (.csv, .jsonl) gives its rows.
    """
    from mercore.cli import show, tables
    from mercore.predict import Predictor

    with watching(machine, Path(out) / "registry.yaml") as watch:
        predictor = Predictor.open(out, machine_of(machine), watch)
        predictions = predictor.predict_files(
            files, store=store, endpoint=endpoint, root=root, retry_failed=retry_failed
        )
    about = [show.predicted(prediction) for prediction in predictions]
    print_json(about) if as_json else tables.print_predicted(about)
    if any(prediction.failed or prediction.label is None for prediction in predictions):
        sys.exit(SOME_FAILED)
