"""How runs that are at the same work at once share it, without a word between them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from mercore.manifest import Sample

_RAREST = 30  # times as long as a look takes, until the next, at most


def in_turn(samples: Sequence[Sample], others: int) -> Sequence[Sample]:
    """Return the samples in another order than the runs have that were there before.

    The second begins at the end, so that it meets the first once; more are shuffled.
    """
    if others > 1:
        return random.sample(samples, len(samples))
    return samples[::-1] if others else samples


class Looks:
    """Looks into the store now and then for what other runs have done."""

    def __init__(self, todo: Callable[[Sequence[Sample]], Sequence[Sample]]) -> None:
        """`todo` returns those of some samples that the store lacks."""
        self._todo = todo
        self._next = 0.0
        self._rare = 1

    def lacking(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return those of the samples that nobody has done, as of the last look.

        The longer a look takes and the longer nothing was found, the rarer they are.
        """
        began = time.perf_counter()
        if began < self._next:
            return samples
        left = self._todo(samples)
        if len(left) < len(samples):  # what comes next may be done too
            self._rare = 1
            return left
        now = time.perf_counter()
        self._next = now + self._rare * (now - began)
        self._rare = min(2 * self._rare, _RAREST)
        return left
