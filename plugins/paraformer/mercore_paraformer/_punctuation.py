"""CT-Transformer: from texts to texts with punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from mercore.components import Inputs, IntArray, Noted
from mercore.inputs import text_of
from mercore.media import Media, Text
from mercore.nn import device_of, dtype_of, moved
from mercore_paraformer._punctuation_published import published
from mercore_paraformer._punctuation_windows import Reading, batches, padded
from mercore_paraformer._punctuation_words import Word, words_of
from mercore_paraformer.punctuation import CTTransformer

AT_ONCE: Final = {"cpu": 256, "cuda": 16_384}
"""The most words of one pass, with padding: products of more are no faster on a CPU."""

_MARKED: Final = re.compile(r"[，。？！、；：…?!;]|(?<![0-9])[.,]|[.,](?![0-9])")
_HALF: Final = {"，": ",", "。": ".", "？": "?"}


class Punctuator:
    """The function ``CTTransformer.load`` returns."""

    def __init__(self, options: CTTransformer, device: str, dtype: str) -> None:
        kind = device_of(device).type
        found = published(options.checkpoint)
        self._network = found.network(device, dtype_of(dtype))
        self._cut, self._number, self._marks = found.cut(), found.number, found.marks
        self._device, self._at_once = device, AT_ONCE.get(kind, AT_ONCE["cuda"])
        self._step = options.window

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        texts = [text_of(sample) for sample in batch]
        marked = [bool(_MARKED.search(text)) for text in texts]
        words = [
            [] if passed else words_of(text, self._cut)
            for text, passed in zip(texts, marked, strict=True)
        ]
        classes = self._classes(words)
        return [self._noted(*parts) for parts in zip(texts, marked, words, classes, strict=True)]

    def _noted(
        self, text: str, marked: bool, words: Sequence[Word], classes: Sequence[int]
    ) -> Noted[Media]:
        signs = signs_of(words, [self._marks.signs[index] for index in classes])
        record = {"punctuated": sum(map(bool, signs)), "passed_through": marked}
        return Noted(Text(joined(text, words, signs)), record)

    def _classes(self, texts: Sequence[Sequence[Word]]) -> list[list[int]]:
        """Return the class behind each word; the texts are read side by side."""
        readings = [Reading(self._numbers(words), self._step) for words in texts]
        while left := [reading for reading in readings if reading.open]:
            for batch in batches(left, self._at_once):
                self._read(batch)
        return [reading.done for reading in readings]

    def _numbers(self, words: Sequence[Word]) -> IntArray:
        return np.array([self._number(word.text) for word in words], np.int64)

    def _read(self, batch: Sequence[Reading]) -> None:
        words, lengths = padded(batch)
        found = self._found(words, lengths)
        for reading, row, length in zip(batch, found, lengths, strict=True):
            reading.take(row[:length], self._marks)

    @torch.inference_mode()
    def _found(self, words: IntArray, lengths: IntArray) -> IntArray:
        """Return the likeliest class behind each word, ``(batch, words)``."""
        alike = bool((lengths == words.shape[1]).all())
        told = None if alike else moved(lengths, self._device)  # no padding needs no mask
        scores = self._network(moved(words, self._device), told)
        found: IntArray = scores.argmax(-1).cpu().numpy()
        return found


def signs_of(words: Sequence[Word], signs: Sequence[str]) -> list[str]:
    """Return the mark behind each word as it is written; the last one ends the text."""
    if not words:
        return []
    written = [
        _HALF.get(sign, sign) if word.latin else sign
        for word, sign in zip(words, signs, strict=True)
    ]
    written[-1] = _final(written[-1], words[-1])
    return written


def _final(sign: str, word: Word) -> str:
    if not sign:
        return "." if word.text[-1].isascii() else "。"
    return {"，": "。", "、": "。", ",": "."}.get(sign, sign)


def joined(text: str, words: Sequence[Word], signs: Sequence[str]) -> str:
    """Return the text with the mark behind each word."""
    starts = [0, *(word.end for word in words)]
    parts = [
        text[start : word.end] + sign
        for start, word, sign in zip(starts, words, signs, strict=False)
    ]
    return "".join(parts) + text[starts[-1] :]
