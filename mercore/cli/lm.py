"""The commands of n-gram language models: lm build, lm score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import print_json, size
from mercore.cli.options import JSON

if TYPE_CHECKING:
    from mercore.ngrams import TextScore, Trained, Units
    from mercore.watch import Watch

_STREAM = "-"


@click.group()
def lm() -> None:
    """Build n-gram language models and try them.

    In the ARPA format, which ASR components with a beam search read.
    """


@lm.command()
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS...")
@click.option(
    "--out",
    default="lm.arpa",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="The model; .gz compresses it, - is the standard output.",
)
@click.option("--order", default=3, type=click.IntRange(1, 5), help="Units an n-gram has at most.")
@click.option(
    "--units",
    default="characters",
    type=click.Choice(["characters", "words", "tokens"]),
    help="What a line is cut into; words and tokens have spaces between them.",
)
@click.option(
    "--tokens", metavar="FILE", help="tokens.json of a checkpoint: the model has just these units."
)
@click.option(
    "--prune",
    default=0,
    type=click.IntRange(0),
    metavar="N",
    help="Leave out n-grams of two and more units that are there at most N times.",
)
@JSON
def build(
    corpora: tuple[str, ...],
    out: str,
    order: int,
    units: Units,
    tokens: str | None,
    prune: int,
    as_json: bool,
) -> None:
    """Build a model from text, by modified Kneser-Ney smoothing.

    A corpus is UTF-8 text, plain or gzip, one sentence a line; - is the standard input. Chinese
    characters are units one by one, other words whole and in lower case, punctuation is left out;
    --units words takes the text as it is. With --units tokens each unit must be in --tokens;
    otherwise one that is not counts as <unk>.
    """
    from pathlib import Path

    from mercore import ngrams
    from mercore.progress import Bars

    if units == "tokens" and not tokens:
        raise click.UsageError("--units tokens needs --tokens FILE")
    if out == _STREAM and as_json:
        raise click.UsageError("--out - and --json both print; give the model a file")
    if out != _STREAM and Path(out).resolve() in [Path(corpus).resolve() for corpus in corpora]:
        raise click.UsageError(f"--out {out} is a corpus; give the model another name")
    with Bars() as bars:
        known = dict.fromkeys(ngrams.read_tokens(Path(tokens)) if tokens else ())
        text = _sentences(corpora, units, known, bars)
        trained = ngrams.build(text, order=order, vocabulary=known, prune=prune, watch=bars)
    path = None if out == _STREAM else ngrams.write_arpa(trained, Path(out))
    for warning in trained.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if path is None:
        click.echo(ngrams.arpa(trained).encode(), nl=False)
        return
    about = _built(trained, str(path), path.stat().st_size)
    print_json(about) if as_json else _print_built(about)


@lm.command()
@click.argument("model", metavar="MODEL")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option(
    "--units",
    default="characters",
    type=click.Choice(["characters", "words"]),
    help="What a line is cut into; words also where they are tokens.",
)
@JSON
def score(model: str, texts: tuple[str, ...], units: Units, as_json: bool) -> None:
    """Measure how well a model predicts text.

    Prints the perplexity and how many units the model does not know. A text is UTF-8, plain or
    gzip, one sentence a line; - is the standard input. Give the units the model was built with.
    """
    from pathlib import Path

    from mercore import ngrams
    from mercore.progress import Bars

    found = ngrams.read_arpa(Path(model))
    with Bars() as bars:
        result = ngrams.score_text(found, _sentences(texts, units, {}, bars))
    about = _scored(result, model, found.order)
    print_json(about) if as_json else _print_scored(about)
    if 2 * about["unknown"] > about["units"]:
        other = "words" if units == "characters" else "characters"
        click.echo(
            f"Warning: the model does not know most units; was it built with --units {other}?",
            err=True,
        )


def _sentences(
    sources: tuple[str, ...], units: Units, tokens: dict[str, None], watch: Watch
) -> Iterator[list[str]]:
    from mercore.ngrams import read_sentences

    for source in sources:
        yield from read_sentences(source, units, tokens, watch)


def _built(trained: Trained, path: str, size: int) -> dict[str, Any]:
    return {
        "model": path,
        "bytes": size,
        "order": len(trained.levels),
        "ngrams": [int(level.kept.sum()) for level in trained.levels],
        "sentences": trained.sentences,
        "units": trained.units,
        "unknown": trained.unknown,
        "discounts": [list(found) for found in trained.discounts],
        "warnings": list(trained.warnings),
    }


def _print_built(about: dict[str, Any]) -> None:
    ngrams = (f"{count} {order}-grams" for order, count in enumerate(about["ngrams"], start=1))
    click.echo(f"{_text(about)}: {', '.join(ngrams)}")
    click.echo(f"Model: {about['model']} ({size(about['bytes'])})")


def _scored(result: TextScore, path: str, order: int) -> dict[str, Any]:
    return {
        "model": path,
        "order": order,
        "sentences": result.sentences,
        "units": result.units,
        "unknown": result.unknown,
        "log_probability": _finite(result.log_probability),
        "perplexity": _finite(result.perplexity),
        "known_perplexity": _finite(result.known_perplexity),
    }


def _print_scored(about: dict[str, Any]) -> None:
    whole, known = (
        "infinite" if value is None else f"{value:.2f}"
        for value in (about["perplexity"], about["known_perplexity"])
    )
    click.echo(f"{_text(about)}: perplexity {whole}; of known units {known}")


def _text(about: dict[str, Any]) -> str:
    return f"{about['sentences']} sentences, {about['units']} units, {about['unknown']} unknown"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
