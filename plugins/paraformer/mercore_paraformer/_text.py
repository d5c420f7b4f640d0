"""From Paraformer's tokens to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

_SILENT: Final = frozenset({"<s>", "</s>", "<blank>", "<unk>", "<OOV>"})
_CONTINUED: Final = "@@"


def text_of(tokens: Iterable[str]) -> str:
    """Return the text: characters joined, words of letters with spaces between.

    A piece that ends in ``@@`` is joined to the next one; letters said one by one become an
    abbreviation (``a b c`` is ``ABC``); ``<unk>`` and the like say nothing. So does FunASR, but it
    loses or moves a piece whose continuation is missing: here that is a word of its own.
    """
    parts = list(_abbreviated(_words(token for token in tokens if token not in _SILENT)))
    spaced = [
        part + " " if is_word(part) and not _is_character(following) else part
        for part, following in zip(parts, [*parts[1:], ""], strict=False)
    ]
    return "".join(spaced).strip()


def _words(tokens: Iterable[str]) -> list[str]:
    """Return words and characters, each word whole."""
    found: list[str] = []
    pending = ""
    for token in tokens:
        if token.endswith(_CONTINUED):
            pending += token.removesuffix(_CONTINUED)
        elif pending and not is_word(token):
            found += [pending, token]
            pending = ""
        else:
            found.append(pending + token)
            pending = ""
    return [*found, pending] if pending else found


def _abbreviated(words: Sequence[str]) -> Iterable[str]:
    """Yield the words, letters in a row as one word in capitals."""
    for is_letter, group in groupby(words, _is_letter):
        run = list(group)
        yield from ["".join(run).upper()] if is_letter and len(run) > 1 else run


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii() and word.isalpha()


def is_word(part: str) -> bool:
    """Return whether it is written in letters, apostrophes included."""
    return bool(part) and all(
        (mark.isalpha() and not _is_character(mark)) or mark == "'" for mark in part
    )


def _is_character(part: str) -> bool:
    """Return whether it is written without spaces: Chinese characters and digits."""
    return bool(part) and all("\u4e00" <= mark <= "\u9fff" or "0" <= mark <= "9" for mark in part)
