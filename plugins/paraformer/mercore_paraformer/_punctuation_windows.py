"""Which words are read together: from the last end of a sentence to some words further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from mercore.components import IntArray

LONG: Final = 200
"""Words without an end of a sentence after which a comma counts as one."""
LONGEST: Final = 2 * LONG
"""Words without even a comma after which all but the last 200 are done."""


@dataclass(frozen=True)
class Marks:
    """What the classes of a network mean, the first one being for what is unknown."""

    signs: tuple[str, ...]
    """The mark of each class, ``""`` for none."""
    stop: int
    """The class of the full stop."""

    @cached_property
    def ends(self) -> frozenset[int]:
        """The classes that end a sentence."""
        return frozenset(index for index, sign in enumerate(self.signs) if sign in ("。", "？"))

    @cached_property
    def commas(self) -> frozenset[int]:
        """The classes of the comma."""
        return frozenset(index for index, sign in enumerate(self.signs) if sign == "，")


@dataclass
class Reading:
    """One text, read window by window."""

    words: IntArray
    """``(words,)`` of the vocabulary."""
    step: int
    done: list[int] = field(default_factory=list)
    """The class behind each word, as far as they are decided."""
    until: int = 0
    """Where the next window ends."""

    def __post_init__(self) -> None:
        self.until = min(self.step, len(self.words))

    @property
    def open(self) -> bool:
        """Whether there is something left to read."""
        return len(self.done) < len(self.words)

    @property
    def window(self) -> IntArray:
        """The words to read next."""
        return self.words[len(self.done) : self.until]

    def take(self, found: IntArray, marks: Marks) -> None:
        """Decide as many words of the window as can be, given the class found behind each."""
        classes = found.tolist()
        if self.until == len(self.words):
            self.done += classes
            return
        self.done += decided(classes, marks)
        self.until = min(self.until + self.step, len(self.words))


def decided(classes: Sequence[int], marks: Marks) -> list[int]:
    """Return the classes of the words up to the last end of a sentence, none where there is none.

    Neither the first two words nor the last one, of which too little is known, count as an end.
    """
    comma = -1
    for place in range(len(classes) - 2, 1, -1):
        if classes[place] in marks.ends:
            return list(classes[: place + 1])
        if comma < 0 and classes[place] in marks.commas:
            comma = place
    if comma >= 0 and len(classes) > LONG:
        return [*classes[:comma], marks.stop]
    return list(classes[:-LONG]) if len(classes) > LONGEST else []


def batches(readings: Sequence[Reading], largest: int) -> list[list[Reading]]:
    """Return the readings by the length of their windows, `largest` words a batch with padding.

    The longest window of a batch is at most a quarter longer than the shortest.
    """
    found: list[list[Reading]] = []
    for reading in sorted(readings, key=lambda reading: len(reading.window)):
        if not found or not _fits(found[-1], len(reading.window), largest):
            found.append([])
        found[-1].append(reading)
    return found


def _fits(batch: Sequence[Reading], length: int, largest: int) -> bool:
    return (len(batch) + 1) * length <= largest and 4 * length <= 5 * len(batch[0].window)


def padded(readings: Sequence[Reading]) -> tuple[IntArray, IntArray]:
    """Return the windows ``(batch, words)``, filled up with 0, and their lengths ``(batch,)``."""
    windows = [reading.window for reading in readings]
    lengths = np.array([len(window) for window in windows])
    words = np.zeros((len(windows), lengths.max()), np.int64)
    for row, window in zip(words, windows, strict=True):
        row[: len(window)] = window
    return words, lengths
