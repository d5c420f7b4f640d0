"""Writes the ARPA format of n-gram models."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mercore.ngrams._counts import START_ID
from mercore.ngrams._kneser_ney import Level, Trained

_NEVER = -99.0
"""The log10 probability that the format gives to what is never predicted: ``<s>``."""


def arpa(model: Trained) -> str:
    """Return the ARPA file of the model."""
    return "".join(f"{line}\n" for line in _file(model))


def write_arpa(model: Trained, path: Path) -> Path:
    """Write the model as an ARPA file, whole or not at all; return the path.

    Compressed where the name ends in .gz. Raises RunError naming the path.
    """
    from mercore.folder import replace

    content = arpa(model).encode()
    return replace(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def _file(model: Trained) -> Iterator[str]:
    yield "\\data\\"
    for order, level in enumerate(model.levels, start=1):
        yield f"ngram {order}={int(level.kept.sum())}"
    for order in range(1, len(model.levels) + 1):
        yield f"\n\\{order}-grams:"
        yield from _ngrams(model, order)
    yield "\n\\end\\"


def _ngrams(model: Trained, order: int) -> Iterator[str]:
    """Yield the lines of one order: probability, words and, where it is not 1, the weight."""
    level = model.levels[order - 1]
    rows = np.flatnonzero(level.kept)
    probabilities = np.minimum(np.log10(level.probabilities[rows]), 0.0)
    if order == 1:
        probabilities[START_ID] = _NEVER
    weights = [f"\t{weight:.7f}" if weight else "" for weight in np.log10(level.backoffs[rows])]
    texts = _texts(model.words, model.levels[:order], rows)
    for probability, text, weight in zip(probabilities.tolist(), texts, weights, strict=True):
        yield f"{probability:.7f}\t{text}{weight}"


def _texts(words: tuple[str, ...], levels: tuple[Level, ...], rows: np.ndarray) -> Iterator[str]:
    """Return the n-grams in these rows of the last level, with spaces between the words."""
    names = np.array(words, object)
    columns = []
    for level in reversed(levels):
        columns.append(names[level.counts.words[rows]].tolist())
        rows = level.counts.contexts[rows]
    return map(" ".join, zip(*reversed(columns), strict=True))
