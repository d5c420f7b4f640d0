"""Measures how well a language model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mercore.errors import InputError
from mercore.ngrams._model import UNKNOWN, BackoffModel


@dataclass(frozen=True)
class TextScore:
    """What a model says about a text; log-probabilities are natural, those of ``</s>`` included.

    `known` leaves out the units that are unknown to the model, `unknown` of them.
    """

    sentences: int
    units: int
    unknown: int
    log_probability: float
    known: float

    @property
    def perplexity(self) -> float:
        """Return the perplexity a unit; unknown units count as ``<unk>``."""
        return _perplexity(self.log_probability, self.units + self.sentences)

    @property
    def known_perplexity(self) -> float:
        """Return the perplexity a unit that the model knows; unknown ones are context only."""
        return _perplexity(self.known, self.units - self.unknown + self.sentences)


def score_text(model: BackoffModel, sentences: Iterable[Sequence[str]]) -> TextScore:
    """Return what the model says about the sentences; raises InputError where there are none."""
    count = units = unknown = 0
    total = strange = 0.0
    for sentence in sentences:
        state = model.start()
        for word in sentence:
            value, state = model.score(state, word)
            total += value
            if word not in model or word == UNKNOWN:
                unknown += 1
                strange += value
        total += model.end(state)
        units += len(sentence)
        count += 1
    if not count:
        raise InputError("no sentence to score: the text is empty")
    return TextScore(count, units, unknown, total, total - strange)


def _perplexity(log_probability: float, events: int) -> float:
    try:
        return math.exp(-log_probability / events)
    except OverflowError:
        return math.inf
