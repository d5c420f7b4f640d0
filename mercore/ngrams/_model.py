"""Scores words with a back-off n-gram model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

State = tuple[str, ...]
"""The last words that still matter, at most order - 1, the newest last."""

START = "<s>"
END = "</s>"
UNKNOWN = "<unk>"
UNKNOWN_FLOOR = -100.0
"""The log10 probability of an unknown word where the ARPA file has no ``<unk>``; KenLM's too."""


@dataclass(frozen=True, slots=True)
class BackoffModel:
    """Scores one word after another.

    `probabilities` maps n-grams to natural log-probabilities and has ``("<unk>",)``; `backoffs`
    maps the n-grams that are contexts to their natural log weights. A state is the longest end of
    the words so far that is such a context: hypotheses of equal states score alike ever after.
    """

    order: int
    probabilities: Mapping[State, float]
    backoffs: Mapping[State, float]

    def __contains__(self, word: object) -> bool:
        """Return whether the model knows the word."""
        return (word,) in self.probabilities

    def start(self) -> State:
        """Return the state after ``<s>``."""
        return self._state((START,))

    def score(self, state: State, word: str) -> tuple[float, State]:
        """Return the natural log-probability of the word after `state`, and the next state.

        A word that the model does not know counts as ``<unk>``.
        """
        words = (*state, word if word in self else UNKNOWN)
        ngram = words
        total = 0.0
        while ngram not in self.probabilities:
            total += self.backoffs.get(ngram[:-1], 0.0)
            ngram = ngram[1:]
        return total + self.probabilities[ngram], self._state(words)

    def end(self, state: State) -> float:
        """Return the natural log-probability of ``</s>`` after `state`."""
        return self.score(state, END)[0]

    def _state(self, words: State) -> State:
        for begin in range(max(0, len(words) - self.order + 1), len(words)):
            if words[begin:] in self.backoffs:
                return words[begin:]
        return ()
