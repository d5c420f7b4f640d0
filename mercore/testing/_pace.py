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
class Round:
    """The seconds of a batch, and of its samples one by one."""

    batch: float
    alone: float

    @property
    def fine(self) -> bool:
        """Whether the batch took no longer, by and large."""
        return self.batch <= SLOWER * self.alone

    @property
    def measurable(self) -> bool:
        """Whether a sample takes long enough to tell."""
        return self.alone >= SAMPLES * SHORTEST


def rounds(subject: Subject, sample: Inputs) -> list[Round]:
    """Return up to five rounds, none after one that is fine or too short to measure.

    One fine round is enough: another program can make a batch slow, but hardly five times.
    """
    found: list[Round] = []
    while len(found) < ROUNDS:
        found.append(_round(subject, [sample] * SAMPLES))
        if found[-1].fine or not found[-1].measurable:
            break
    return found


def _round(subject: Subject, batch: Sequence[Inputs]) -> Round:
    start = time.perf_counter()
    subject.run(batch)
    middle = time.perf_counter()
    for sample in batch:
        subject.run([sample])
    return Round(middle - start, time.perf_counter() - middle)


def described(found: Sequence[Round]) -> str:
    """Return the medians of both times in words."""
    batch, alone = median(r.batch for r in found), median(r.alone for r in found)
    return (
        f"a batch of {SAMPLES} equal samples takes {1e3 * batch:.3g} ms, the same samples one by "
        f"one {1e3 * alone:.3g} ms (medians of {len(found)} rounds, each more than {SLOWER} times)"
    )
