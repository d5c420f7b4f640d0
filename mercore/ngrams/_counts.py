"""Counts n-grams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mercore.ngrams._model import END, START, UNKNOWN

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MARKS = (UNKNOWN, START, END)
"""The first words of every vocabulary."""
START_ID, END_ID = MARKS.index(START), MARKS.index(END)


@dataclass(frozen=True)
class Counts:
    """The different n-grams of one order, one a row, sorted by context and last word.

    `contexts` and `suffixes` are the rows, in the order below, of all words but the last and but
    the first; `words` the last words; `starts` which n-grams begin with ``<s>``; `counts` how
    often each is there.
    """

    contexts: IntArray
    words: IntArray
    suffixes: IntArray
    starts: BoolArray
    counts: IntArray

    def __len__(self) -> int:
        """Return the number of different n-grams."""
        return len(self.words)


def count(text: IntArray, vocabulary: int, order: int) -> Iterator[Counts]:
    """Yield the n-grams of 1, 2, ... `order` words that lie within one sentence.

    `text` holds word ids, each sentence between the ids of ``<s>`` and ``</s>``.
    """
    words = np.arange(vocabulary)
    none = np.zeros(vocabulary, np.int64)
    counts = np.bincount(text, minlength=vocabulary)
    found = Counts(none, words, none, words == START_ID, counts)
    yield found
    rows = text  # of the n-gram that begins at each place of the text; -1: none does
    for length in range(2, order + 1):
        found, rows = _longer(text, vocabulary, found, rows, length)
        yield found


def _longer(
    text: IntArray, vocabulary: int, below: Counts, rows: IntArray, length: int
) -> tuple[Counts, IntArray]:
    """Return the n-grams of `length` words, from those that are one word shorter."""
    within = rows >= 0
    within[: len(text) - length + 2] &= text[length - 2 :] != END_ID
    places = np.flatnonzero(within)
    keys = rows[places] * vocabulary + text[places + length - 1]
    kept, example, inverse, counts = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    contexts, words = np.divmod(kept, vocabulary)
    suffixes = rows[places[example] + 1]
    longer = np.full_like(rows, -1)
    longer[places] = inverse
    return Counts(contexts, words, suffixes, below.starts[contexts], counts), longer


def adjusted(counts: list[Counts]) -> list[IntArray]:
    """Return the counts that Kneser-Ney smoothing estimates each order from.

    Of the highest order as they are; below it, how many different words are there before the
    n-gram. No word is before ``<s>``: n-grams that begin with it keep their counts.
    """
    found = [
        np.where(lower.starts, lower.counts, np.bincount(upper.suffixes, minlength=len(lower)))
        for lower, upper in pairwise(counts)
    ]
    found.append(counts[-1].counts.copy())
    found[0][START_ID] = 0  # never a word to be predicted
    return found
