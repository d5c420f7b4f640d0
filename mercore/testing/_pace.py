"""Whether a batch is worth while: its time beside that of its samples one by one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mercore.components import Inputs
from mercore.testing._subject import Subject

SAMPLES = 4
"""In a batch, all alike, so that none is padded."""
ROUNDS = 5
SLOWER = 1.5
"""How many times the time of its samples a batch may take."""
SHORTEST = 1e-3
"""Seconds: what takes less is measured too badly."""


@dataclass(frozen=True)
class Spent:
    """What some calls took, in seconds."""

    time: float
    processor: float
    """Of all cores; other programs do not add to it."""

    def __sub__(self, before: Spent) -> Spent:
        return Spent(self.time - before.time, self.processor - before.processor)

    @classmethod
    def now(cls) -> Spent:
        """Return the clocks."""
        return cls(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Round:
    """What a batch took, and its samples one by one."""

    batch: Spent
    alone: Spent

    @property
    def fine(self) -> bool:
        """Whether the batch took no longer, by and large, or only because others worked too."""
        longer = self.batch.time > SLOWER * self.alone.time
        return not (longer and self.batch.processor > SLOWER * self.alone.processor)

    @property
    def measurable(self) -> bool:
        """Whether a sample takes long enough to tell."""
        return self.alone.processor >= SAMPLES * SHORTEST


def rounds(subject: Subject, sample: Inputs) -> list[Round]:
    """Return up to five rounds, none after one that is fine or too short to measure.

    One fine round is enough: what is slow by itself is slow each time.
    """
    found: list[Round] = []
    while len(found) < ROUNDS:
        found.append(_round(subject, [sample] * SAMPLES))
        if found[-1].fine or not found[-1].measurable:
            break
    return found


def _round(subject: Subject, batch: Sequence[Inputs]) -> Round:
    start = Spent.now()
    subject.run(batch)
    middle = Spent.now()
    for sample in batch:
        subject.run([sample])
    return Round(middle - start, Spent.now() - middle)


def described(found: Sequence[Round]) -> str:
    """Return the medians of both times in words."""
    batch, alone = (
        f"{1e3 * median(times):.1f} ms"
        for times in zip(*((r.batch.time, r.alone.time) for r in found), strict=True)
    )
    return (
        f"a batch of {SAMPLES} equal samples takes {batch}, the same samples one by one {alone} "
        f"(medians of {len(found)} rounds); expected {SLOWER} times as long at most"
    )
