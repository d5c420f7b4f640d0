"""Estimates n-gram models by modified Kneser-Ney smoothing."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.errors import InputError
from mercore.ngrams._counts import (
    MARKS,
    START_ID,
    BoolArray,
    Counts,
    IntArray,
    adjusted,
    count,
)
from mercore.ngrams._model import END, START
from mercore.watch import Silent, Watch

FloatArray = NDArray[np.float64]
Discounts = tuple[float, float, float]

FALLBACK: Discounts = (0.5, 1.0, 1.5)
"""The discounts where the text is too small to estimate them: those of KenLM's lmplz."""


@dataclass(frozen=True)
class Level:
    """The n-grams of one order: which are kept, their probabilities and back-off weights."""

    counts: Counts
    kept: BoolArray
    probabilities: FloatArray
    backoffs: FloatArray


@dataclass(frozen=True)
class Trained:
    """An n-gram model that `build` estimated; `write_arpa` writes it."""

    words: tuple[str, ...]
    levels: tuple[Level, ...]
    discounts: tuple[Discounts, ...]
    sentences: int
    units: int
    unknown: int
    warnings: tuple[str, ...]


def build(
    sentences: Iterable[Sequence[str]],
    *,
    order: int = 3,
    vocabulary: Collection[str] = (),
    prune: int = 0,
    watch: Watch | None = None,
) -> Trained:
    """Return the model of `order` estimated from the sentences.

    Interpolated modified Kneser-Ney smoothing as in Chen and Goodman, "An Empirical Study of
    Smoothing Techniques for Language Modeling" (TR-10-98, 1998), section 3: three discounts an
    order (equation 26), the 1-grams interpolated with an equal share for each word and ``<unk>``.

    With a `vocabulary` the model has just its words; others count as ``<unk>``. n-grams of two
    words and more that are there at most `prune` times are left out and their probability goes to
    the back-off. Where discounts are undefined, `FALLBACK` is taken with a warning. Raises
    InputError where there are no sentences, one has ``<s>`` or ``</s>`` in it, or a word has a
    space in it or is empty.
    """
    watch = watch or Silent()
    words, text = _encode(sentences, vocabulary)
    watch.start("n-grams", order)
    counts = []
    for found in count(text, len(words), order):
        counts.append(found)
        watch.advance("n-grams", 1, 0)
    basis = adjusted(counts)
    chosen = [_discounts(numbers) for numbers in basis]
    discounts = [found or FALLBACK for found in chosen]
    levels = _estimate(counts, basis, discounts, prune)
    warnings = _warnings([n for n, found in enumerate(chosen, start=1) if not found])
    while not levels[-1].kept.any():
        warnings.append(f"there are no {len(levels)}-grams to keep; the order is one less")
        levels.pop()
    starts = int(counts[0].counts[START_ID])
    return Trained(
        words=tuple(words),
        levels=tuple(levels),
        discounts=tuple(discounts),
        sentences=starts,
        units=len(text) - 2 * starts,
        unknown=int(counts[0].counts[0]),
        warnings=tuple(warnings),
    )


def _encode(
    sentences: Iterable[Sequence[str]], vocabulary: Collection[str]
) -> tuple[list[str], IntArray]:
    """Return the words, and the text as ids of words."""
    ids = {word: number for number, word in enumerate(dict.fromkeys((*MARKS, *vocabulary)))}
    unknown, start, end = map(ids.__getitem__, MARKS)
    text = array("q")
    for sentence in sentences:
        if START in sentence or END in sentence:
            raise InputError(f"a sentence has {START} or {END} in it: marks of the model itself")
        if not vocabulary:
            for word in sentence:
                ids.setdefault(word, len(ids))
        text.append(start)
        text.extend([ids.get(word, unknown) for word in sentence])
        text.append(end)
    if strange := [word for word in ids if word.split() != [word]]:
        raise InputError(f"{strange[0]!r} is no word of a language model: empty or with a space")
    if not text:
        raise InputError("no sentence to build a language model from: the text is empty")
    return list(ids), np.frombuffer(text, np.int64)


def _discounts(counts: IntArray) -> Discounts | None:
    """Return the discounts of counts of 1, 2 and 3 or more (equation 26); None: undefined."""
    of = np.bincount(np.minimum(counts, 5), minlength=5).tolist()
    if 0 in of[1:4]:
        return None
    share = of[1] / (of[1] + 2 * of[2])
    one, two, more = (n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3))
    return (one, two, more) if min(one, two, more) > 0 else None


def _warnings(orders: Sequence[int]) -> list[str]:
    if not orders:
        return []
    ngrams = ", ".join(f"{order}-grams" for order in orders)
    return [
        f"too little text, or text that repeats itself, to estimate the discounts of the {ngrams}; "
        f"{', '.join(map(str, FALLBACK))} are taken"
    ]


def _estimate(
    counts: Sequence[Counts], basis: Sequence[IntArray], discounts: Sequence[Discounts], prune: int
) -> list[Level]:
    """Return the levels, the lowest first."""
    levels: list[Level] = []
    below = np.array([1 / (len(counts[0]) - 1)])  # <s> is not predicted, <unk> is
    for n, (found, numbers) in enumerate(zip(counts, basis, strict=True)):
        kept = (found.counts > prune) | (n == 0)
        taken = np.array([0, *discounts[n]])[np.minimum(numbers, 3)]
        taken = np.where(kept, taken, numbers)  # all that a left-out n-gram has goes to others
        total = np.bincount(found.contexts, numbers, len(below))
        backoffs = np.ones(len(below))
        np.divide(np.bincount(found.contexts, taken, len(below)), total, backoffs, where=total > 0)
        share = (numbers - taken) / total[found.contexts]
        probabilities = share + backoffs[found.contexts] * below[found.suffixes]
        if levels:
            levels[-1].backoffs[:] = backoffs
        levels.append(Level(found, kept, probabilities, np.ones(len(found))))
        below = probabilities
    return levels
