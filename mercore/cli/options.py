"""The options that the commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

Command = Callable[..., Any]

JSON = click.option("--json", "as_json", is_flag=True, help="Print machine-readable results.")
MARKUP = [
    click.option("--latex", "markup", flag_value="latex", help="Print the table as LaTeX."),
    click.option("--markdown", "markup", flag_value="markdown", help="Print it as Markdown."),
]
ENDPOINT = click.option(
    "--endpoint", metavar="URL", help="The S3 server; else AWS_ENDPOINT_URL, or AWS."
)
OUT = click.option("--out", default="runs/default", metavar="DIR", help="The run folder.")
MANIFEST = click.option("--manifest", default="manifest.csv", metavar="FILE", help="The samples.")
STORE = click.option(
    "--store",
    default="mer.zarr",
    metavar="PLACE",
    help="The store: a folder, or s3://bucket/prefix.",
)
EXPERIMENT = [
    click.option("--registry", default="registry.yaml", metavar="FILE", help="The experiment."),
    MANIFEST,
]
STORED = [*EXPERIMENT, STORE, ENDPOINT]
FILES = [*STORED, OUT]
MACHINE = [
    click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--batch",
        default=1.0,
        type=click.FloatRange(0.01, 1000),
        metavar="X",
        help="Scale the batches: 2 is twice as big.",
    ),
    click.option(
        "--threads",
        default=2,
        type=click.IntRange(1),
        metavar="N",
        help="Threads that decode ahead.",
    ),
    click.option(
        "--parallel",
        default=0,
        type=click.IntRange(0),
        metavar="N",
        help="Features at once; 0: two on a CPU, else one.",
    ),
]
WORKERS = [
    click.option(
        "--devices",
        default="",
        metavar="LIST",
        help="Extract in a process each: cuda:0,cuda:1 or cpu:2.",
    ),
    click.option(
        "--retries",
        default=2,
        type=click.IntRange(1),
        metavar="N",
        help="Ends of its process until a sample is given up.",
    ),
]
RETRY = click.option("--retry-failed", is_flag=True, help="Try samples that failed before again.")


def with_options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Return a decorator that adds the options to a command, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
