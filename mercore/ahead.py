"""Room for what threads have read ahead: memory stays bounded however large the clips are."""

from __future__ import annotations

import math
from threading import Condition


class Room:
    """The bytes of results that are ready and wait to be taken, in the order of their numbers.

    A thread that finds no room waits before it begins. So the results that wait are below `most`
    bytes, but for one more of each thread.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._held = 0
        self._next = 0  # number of the result that is taken next
        self._changed = Condition()

    def enter(self, number: int) -> None:
        """Return once there is room; at once for the result that is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: number == self._next or self._held < self._most)

    def fill(self, size: int) -> None:
        """Take note that a result of so many bytes is ready."""
        with self._changed:
            self._held += size

    def take(self, size: int) -> None:
        """Take note that the next result, of so many bytes, is taken."""
        with self._changed:
            self._held -= size
            self._next += 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let every thread go on: nothing will be taken any more."""
        with self._changed:
            self._most = math.inf
            self._changed.notify_all()
