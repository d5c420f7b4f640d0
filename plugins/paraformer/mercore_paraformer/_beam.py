"""A beam over positions, ranked together with a language model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import inf
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mercore_paraformer._language import LanguageModel
from mercore_paraformer._spelling import Spelling
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.hypotheses import Hypothesis

SILENT: Final = -1
"""In the place of a token: nothing is said at this position."""

Choices = Sequence[tuple[int, float]]
"""Tokens with their log-probabilities at one position."""


@dataclass(eq=False, slots=True)
class Prefix:
    """How a sentence begins, and what the language model says of that; one object each.

    `pending` is the begin of a word that the model has not scored yet.
    """

    parent: Prefix | None
    token: int
    length: int
    language: float
    state: Any
    pending: str
    longer: dict[int, Prefix] = field(default_factory=dict)

    def tokens(self) -> tuple[int, ...]:
        """Return the tokens in order."""
        found: list[int] = []
        prefix = self
        while prefix.parent is not None:
            found.append(prefix.token)
            prefix = prefix.parent
        return tuple(reversed(found))


Alive = Mapping[Prefix, float]
"""Prefixes with the acoustic log-probability of the best way to say each."""


class BeamSearch:
    """Finds the sentences of the highest score.

    The score of a sentence is acoustic + `lm_weight` * language + `length_bonus` * length. Each
    position says one token or nothing; nothing costs the likeliest of the `special` tokens there,
    which are never said. The last position is dropped: that the sentence ends is the language
    model's to score. With one reading wanted, of prefixes after which the model scores all alike
    only the best goes on; with more, each goes on.
    """

    def __init__(
        self,
        options: Decoding,
        model: LanguageModel,
        spelling: Spelling,
        special: Collection[int],
    ) -> None:
        self._weight, self._bonus = options.lm_weight, options.length_bonus
        self._beam, self._nbest = options.beam, options.nbest
        self._model, self._spelling, self._special = model, spelling, list(special)

    def __call__(self, logp: NDArray[np.float32]) -> list[Hypothesis]:
        """Return the readings of log-probabilities ``(positions, vocabulary)``, the best first."""
        alive: Alive = {Prefix(None, SILENT, 0, 0.0, self._model.start(), ""): 0.0}
        for choices in self._choices(logp[:-1]):
            alive = self._grown(alive, choices)
        ended = (self._ended(prefix, acoustic) for prefix, acoustic in alive.items())
        return nlargest(self._nbest, ended, key=lambda found: found.score)

    def _choices(self, logp: NDArray[np.float32]) -> list[Choices]:
        """Return what to try at each position: the likeliest tokens, and nothing."""
        said = logp.copy()
        said[:, self._special] = -inf
        silent = logp[:, self._special].max(axis=1, initial=-inf)
        count = min(self._beam, logp.shape[1] - len(self._special))
        tokens = np.argpartition(-said, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(said, tokens, axis=1)
        return [
            [*zip(row, value, strict=True), *([(SILENT, quiet)] if quiet > -inf else [])]
            for row, value, quiet in zip(
                tokens.tolist(), values.tolist(), silent.tolist(), strict=True
            )
        ]

    def _grown(self, alive: Alive, choices: Choices) -> Alive:
        """Return the best prefixes after one more position.

        A language model only takes from a score: once the most that a candidate can have is below
        the beam, so are those after it, and the model need not score them.
        """
        found: dict[object, tuple[float, Prefix, float]] = {}
        for most, prefix, token, acoustic in self._candidates(alive, choices):
            if len(found) >= self._beam and most < self._least(found.values()):
                break
            longer = prefix if token == SILENT else self._longer(prefix, token)
            score = self._score(longer, acoustic)
            key = longer if self._nbest > 1 else (longer.state, longer.pending)
            if key not in found or score > found[key][0]:
                found[key] = score, longer, acoustic
        best = nlargest(self._beam, found.values(), key=itemgetter(0))
        return {prefix: acoustic for _, prefix, acoustic in best}

    def _candidates(self, alive: Alive, choices: Choices) -> list[tuple[float, Prefix, int, float]]:
        """Return what each prefix may say next, with the most that its score can be, best first."""
        found = [
            (score + value + (self._bonus if token != SILENT else 0.0), prefix, token, said + value)
            for prefix, said in alive.items()
            for score in [self._score(prefix, said)]
            for token, value in choices
        ]
        return sorted(found, key=itemgetter(0), reverse=True)

    def _least(self, found: Iterable[tuple[float, Prefix, float]]) -> float:
        """Return the score of the last within the beam."""
        return sorted((score for score, _, _ in found), reverse=True)[self._beam - 1]

    def _score(self, prefix: Prefix, acoustic: float) -> float:
        return acoustic + self._weight * prefix.language + self._bonus * prefix.length

    def _longer(self, prefix: Prefix, token: int) -> Prefix:
        if (known := prefix.longer.get(token)) is not None:
            return known
        words, pending = self._spelling.after(prefix.pending, token)
        language, state = self._scored(prefix, words)
        made = Prefix(prefix, token, prefix.length + 1, language, state, pending)
        prefix.longer[token] = made
        return made

    def _scored(self, prefix: Prefix, words: Sequence[str]) -> tuple[float, Any]:
        """Return the log-probability of the prefix and these words, and the state after them."""
        total, state = prefix.language, prefix.state
        for word in words:
            value, state = self._model.score(state, word)
            total += value
        return total, state

    def _ended(self, prefix: Prefix, acoustic: float) -> Hypothesis:
        language, state = self._scored(prefix, [prefix.pending] if prefix.pending else [])
        language += self._model.end(state)
        score = acoustic + self._weight * language + self._bonus * prefix.length
        return Hypothesis(prefix.tokens(), score, acoustic, language)
