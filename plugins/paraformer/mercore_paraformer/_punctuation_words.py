"""A text as the words that CT-Transformer reads, and where each of them lies."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mercore.errors import CheckpointError

Piece = re.Match[str]
Cut = Callable[[str], Iterable[str]]
"""Cuts a text without blanks into words; joined, they are the text."""

_ENGLISH = re.compile(r"[a-zA-Z']+")
_CHARACTERS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")


@dataclass(frozen=True)
class Word:
    """A word as the network knows it."""

    text: str
    end: int
    """Where it ends in the text it is from."""

    @property
    def latin(self) -> bool:
        """Whether it is followed by marks of half the width."""
        return self.text[0].isascii()


def words_of(text: str, cut: Cut | None) -> list[Word]:
    """Return the words of the text, as `cut` finds them or, without one, character by character.

    Blanks lie between words. A run of ASCII between them is one word, and so is each other
    character. With `cut`, words of Latin letters are kept, and all between two of those is cut as
    one, so that a word may have blanks inside, which its `text` has not.
    """
    pieces = list(re.finditer(r"\S+", text))
    return list(_by_character(pieces) if cut is None else _by_word(pieces, cut))


def _by_character(pieces: Sequence[Piece]) -> Iterator[Word]:
    for piece in pieces:
        for found in _CHARACTERS.finditer(piece[0]):
            yield Word(found[0], piece.start() + found.end())


def _by_word(pieces: Sequence[Piece], cut: Cut) -> Iterator[Word]:
    for english, run in groupby(pieces, lambda piece: bool(_ENGLISH.fullmatch(piece[0]))):
        if english:
            yield from (Word(piece[0], piece.end()) for piece in run)
        else:
            yield from _cut(list(run), cut)


def _cut(pieces: Sequence[Piece], cut: Cut) -> Iterator[Word]:
    ends = [place + 1 for piece in pieces for place in range(piece.start(), piece.end())]
    done = 0
    for word in cut("".join(piece[0] for piece in pieces)):
        done += len(word)
        yield Word(word, ends[done - 1])


def jieba_with(dictionary: Path) -> Cut:
    """Return jieba's cut, with the words of `dictionary` beside its own.

    Raises CheckpointError for a file that is no dictionary of jieba's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of escapes in its source
        import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()  # the shared one would keep these words
    try:
        with dictionary.open("rb") as file:
            tokenizer.load_userdict(file)
    except (ValueError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{dictionary}: is no dictionary of jieba: {error}; fetch the file again"
        ) from error
    return lambda text: tokenizer.cut(text, HMM=False)
