"""One reading of an utterance, as every decoder returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SPECIAL: Final = ("<blank>", "<s>", "</s>")
"""Tokens that stand for no sound."""


@dataclass(frozen=True)
class Hypothesis:
    """Tokens in order, and their log-probabilities (natural logarithms).

    `tokens` holds indices into the vocabulary, without the special ones. `score` is what the
    decoder ranks by: `acoustic` + weight * `language` + bonus * length.
    """

    tokens: tuple[int, ...]
    score: float
    acoustic: float
    language: float = 0.0
