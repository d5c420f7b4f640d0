"""From Paraformer's tokens to the words that a language model scores."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from mercore_paraformer._text import is_word

_CONTINUED: Final = "@@"


class Spelling:
    """Joins pieces such as ``hel@@ lo`` to words; other tokens are words as they are.

    A model that knows pieces themselves (``mer lm build --units tokens``) gets each on its own.
    """

    def __init__(self, tokens: Sequence[str], known: Container[str]) -> None:
        self._tokens = tokens
        self._whole = not any(token in known for token in tokens if token.endswith(_CONTINUED))

    def after(self, pending: str, token: int) -> tuple[Sequence[str], str]:
        """Return the words that `token` completes, and the begin of the next word.

        `pending` is the begin of a word so far. A token that is not of letters does not continue
        it: the begin is then a word of its own, as it is in the text.
        """
        piece = self._tokens[token]
        if not self._whole:
            return (piece,), ""
        if piece.endswith(_CONTINUED):
            return (), pending + piece.removesuffix(_CONTINUED)
        if pending and not is_word(piece):
            return (pending, piece), ""
        return (pending + piece,), ""
