"""What was heard, as text and as a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from pydantic import JsonValue

from mercore.components import Noted
from mercore.media import FloatArray, Media, Text
from mercore_paraformer._text import text_of
from mercore_paraformer.hypotheses import SPECIAL, Hypothesis


@dataclass(frozen=True, eq=False)
class Heard:
    """One piece of audio: the scores of its positions, and its readings."""

    scores: FloatArray
    """``(positions, vocabulary)`` log-probabilities."""
    readings: Sequence[Hypothesis]
    """One or more, the best first."""

    def reading(self, rank: int) -> Hypothesis:
        """Return the reading of that rank, or the last one where there are fewer."""
        return self.readings[min(rank, len(self.readings) - 1)]


def noted(heard: Sequence[Heard], tokens: Sequence[str], nbest: int) -> Noted[Media]:
    """Return the text of a clip from all its pieces, with its record."""
    spelt: list[JsonValue] = [tokens[place] for piece in heard for place in piece.reading(0).tokens]
    special = [tokens.index(name) for name in SPECIAL if name in tokens]
    likely = [value for piece in heard for value in likelihoods(piece, special)]
    text, score = _reading(heard, tokens, 0)
    record: dict[str, JsonValue] = {
        "confidence": round(exp(sum(likely) / len(likely)), 4) if likely else 0.0,
        "score": score,
        "tokens": spelt,
        "token_confidences": [round(exp(value), 4) for value in likely],
    }
    if nbest > 1:
        ranks = range(max((len(piece.readings) for piece in heard), default=0))
        pairs = [_reading(heard, tokens, rank) for rank in ranks]
        record["nbest"] = [{"text": text, "score": score} for text, score in pairs]
    return Noted(Text(text), record)


def _reading(heard: Sequence[Heard], tokens: Sequence[str], rank: int) -> tuple[str, float]:
    """Return the text of that rank and its score: those of all pieces."""
    readings = [piece.reading(rank) for piece in heard]
    text = text_of(tokens[place] for reading in readings for place in reading.tokens)
    return text, round(sum((reading.score for reading in readings), 0.0), 4)


def likelihoods(heard: Heard, special: Sequence[int]) -> Iterator[float]:
    """Yield the log-probability of each token of the best reading, at its position.

    A reading does not say where its tokens are. Where there are as many as positions whose
    likeliest token is none of the `special` ones, they are there; else where, in their order, they
    are likeliest together.
    """
    tokens = list(heard.reading(0).tokens)
    spoken = np.flatnonzero(~np.isin(heard.scores.argmax(axis=1), special)).tolist()
    if len(spoken) != len(tokens):
        spoken = _likeliest(heard.scores[:, tokens])
    yield from heard.scores[spoken, tokens].tolist()


def _likeliest(scores: FloatArray) -> list[int]:
    """Return rising positions, one a token, of the largest sum of ``(positions, tokens)``."""
    count = scores.shape[1]
    totals = np.full((count + 1, len(scores) + 1), -np.inf)  # of the first tokens and positions
    totals[0] = 0.0
    for token in range(count):
        ending = totals[token, :-1] + scores[:, token]
        totals[token + 1, 1:] = np.maximum.accumulate(ending)
    places: list[int] = []
    end = len(scores)
    for token in reversed(range(count)):
        end = int(np.argmax(totals[token, :end] + scores[:end, token]))
        places.append(end)
    return places[::-1]
