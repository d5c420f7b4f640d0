"""The command that pre-trains encoders without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import machine_of, open_project, print_json
from mercore.cli.options import (
    DEVICE,
    JSON,
    LIMITS,
    ROOT,
    STORED,
    THREADS,
    WATCHED,
    with_options,
)
from mercore.cli.tune import PLAN, WITH
from mercore.cli.watching import watching

if TYPE_CHECKING:
    from mercore.tuning.pretrain import Pretraining
    from mercore.watch import Watch

_PROJECT = ("registry", "manifest", "store", "endpoint", "root")

PICTURES = [
    click.option(
        "--images", multiple=True, metavar="DIR",
        help="Pictures (JPEG, PNG, WebP) below this folder; many times.",
    ),
    click.option(
        "--shards", multiple=True, metavar="PATTERN",
        help="Pictures in tar shards (webdataset), such as 'faces-{000..099}.tar'; many times.",
    ),
    click.option(
        "--split", "splits", multiple=True, metavar="NAME",
        help="Of a manifest, only the clips of this split; many times.",
    ),
]  # fmt: skip


@click.command()
@click.argument("name")
@click.option("--out", default="runs/pretrain", metavar="DIR", help="The folder of the training.")
@click.option("--seed", default=0, metavar="N", help="Of all that is drawn at random.")
@click.option("--measure", is_flag=True, help="Only measure the pictures, and say what is usual.")
@with_options([*PICTURES, WITH, *PLAN, *STORED, DEVICE, THREADS, *LIMITS, *WATCHED, ROOT, JSON])
def pretrain(
    name: str,
    out: str,
    seed: int,
    measure: bool,
    plan: bool,
    memory: int | None,
    options: dict[str, Any],
    as_json: bool,
    **given: Any,
) -> None:
    """Pre-train an encoder without labels.

    NAME is an encoder of pictures, with --images or --shards; else a feature of the registry, or
    the encoder that one feature uses, which is trained on what the feature reads of the manifest's
    samples: frames of clips, texts. The checkpoint is in the layout of the encoder's published
    ones. An interrupted training goes on.
    """
    from mercore.cli import tuned
    from mercore.tuning.pretrain import pretrain as pretrain_encoder
    from mercore.tuning.processes import rank

    with watching(given, given["registry"]) as watch:
        pretraining = _pretraining(name, given, watch)
        if plan:
            about = pretraining.planned(options, memory)
        elif measure:
            about = pretraining.measured(options, Path(out))
        else:
            about = pretrain_encoder(pretraining, options, out, seed=seed)
    if rank():  # one process prints
        return
    if as_json:
        print_json(about)
    elif plan:
        tuned.print_plan(about)
    elif measure:
        tuned.print_measured(about)
    else:
        tuned.print_pretrained(about)


def _pretraining(name: str, given: dict[str, Any], watch: Watch) -> Pretraining:
    from mercore.tuning.pretrain import Pretraining

    images, shards, splits = (given.pop(key) for key in ("images", "shards", "splits"))
    if not images and not shards:
        if not os.path.exists(given["registry"]):
            raise click.UsageError(
                "give pictures by --images or --shards, or the registry of clips by --registry"
            )
        project = open_project(given, watch, create=True)
        return Pretraining.of_project(project, name, splits)
    if splits or (images and shards):
        raise click.UsageError("give one of --images, --shards and --split")
    for key in _PROJECT:
        del given[key]
    return Pretraining.of_pictures(
        name, images=images, shards=shards, machine=machine_of(given), watch=watch
    )
