"""Hotwords as SeACo-Paraformer reads them: sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mercore.errors import RegistryError

Segments = Mapping[str, Sequence[str]]
"""The tokens of a word, by the word in small letters."""


def segments_in(file: Path | None) -> Segments:
    """Return what a ``seg_dict`` holds, a word and its tokens a line; nothing without a file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    return {word: tokens for word, *tokens in map(str.split, filter(str.strip, lines))}


def spelt(hotwords: Sequence[str], tokens: Sequence[str], segments: Segments) -> list[list[int]]:
    """Return the tokens of each hotword.

    A word that `segments` lists is spelt as it says, another one character by character. Raises
    RegistryError that names all hotwords of which the network does not know a part.
    """
    places = {token: place for place, token in enumerate(tokens)}
    found = [list(_spelt(hotword, places, segments)) for hotword in hotwords]
    unknown = [
        f"{hotword!r} ({', '.join(repr(part) for part in parts if part not in places)})"
        for hotword, parts in zip(hotwords, found, strict=True)
        if not parts or any(part not in places for part in parts)
    ]
    if unknown:
        raise RegistryError(
            f"paraformer: hotwords: the vocabulary lacks what these are made of: "
            f"{', '.join(unknown)}; leave them out, or write numbers and letters as they are said"
        )
    return [[places[part] for part in parts] for parts in found]


def _spelt(hotword: str, places: Mapping[str, int], segments: Segments) -> Iterator[str]:
    for word in hotword.lower().split():
        if word in segments or word in places:
            yield from segments.get(word, (word,))
        else:
            for character in word:
                yield from segments.get(character, (character,))
