"""The options that the commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from mercore.limits import DEFAULT, parse_size, size_text

Command = Callable[..., Any]


class Size(click.ParamType[int]):
    """A number of bytes above 0: ``2GiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        try:
            size = value if isinstance(value, int) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return size if size > 0 else self.fail(f"{value!r}: expected more than 0", param, ctx)


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
DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
THREADS = click.option(
    "--threads",
    default=2,
    type=click.IntRange(1),
    metavar="N",
    help="Threads that decode ahead.",
)
MACHINE = [
    DEVICE,
    click.option(
        "--batch",
        default=1.0,
        type=click.FloatRange(0.01, 1000),
        metavar="X",
        help="Scale the batches: 2 is twice as big.",
    ),
    THREADS,
    click.option(
        "--parallel",
        default=0,
        type=click.IntRange(0),
        metavar="N",
        help="Features at once; 0: two on a CPU, else one.",
    ),
]
LIMITS = [
    click.option(
        "--max-seconds",
        default=DEFAULT.max_seconds,
        type=click.FloatRange(0, min_open=True),
        metavar="S",
        help="The longest clip; a longer one fails.",
    ),
    click.option(
        "--max-pixels",
        default=DEFAULT.max_pixels,
        type=click.IntRange(1),
        metavar="N",
        help="The largest frame: width times height.",
    ),
    click.option(
        "--max-frames",
        default=DEFAULT.max_frames,
        type=click.IntRange(1),
        metavar="N",
        help="The most frames in a video.",
    ),
    click.option(
        "--max-memory",
        default=size_text(DEFAULT.max_memory),
        type=Size(),
        metavar="SIZE",
        help="The most that one clip may take, decoded.",
    ),
    click.option(
        "--max-text",
        default=size_text(DEFAULT.max_text),
        type=Size(),
        metavar="SIZE",
        help="The largest text file.",
    ),
    click.option(
        "--max-decoding",
        default=DEFAULT.max_decoding,
        type=click.FloatRange(0, min_open=True),
        metavar="S",
        help="The longest that decoding a file may take.",
    ),
]
ROOT = click.option("--root", metavar="DIR", help="Refuse media that do not lie below this folder.")
WATCHED = [
    click.option("--log", metavar="FILE", help="Add what happens to it, as lines of JSON."),
    click.option("--metrics", metavar="FILE", help="Keep figures in it, for Prometheus."),
]
ENGINE = [
    click.option(
        "--engine",
        default="local",
        type=click.Choice(["local", "ray"]),
        help="This machine, or a Ray cluster.",
    ),
    click.option(
        "--address",
        default="auto",
        metavar="PLACE",
        help="Of the Ray cluster: auto, HOST:PORT, or local for a new one.",
    ),
]
WORKERS = [
    *ENGINE,
    click.option(
        "--workers",
        default=0,
        type=click.IntRange(0),
        metavar="N",
        help="Workers on Ray; 0: one a GPU, else one a node.",
    ),
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
