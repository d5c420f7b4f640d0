"""SIGINT and SIGTERM, in the hands of those who end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def heeded() -> dict[int, Any]:
    """Return what has each of the two, without those that are ignored or beyond Python."""
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {n: handler for n, handler in found.items() if handler not in (signal.SIG_IGN, None)}


@contextmanager
def taken(handle: Callable[[int, Any], object]) -> Iterator[None]:
    """Call `handle` with the number of each of the two, and with what had it before.

    A signal that is ignored, as SIGINT is in the background of a script, stays so. Only the main
    thread may do this: in another nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = heeded()

    def called(number: int, frame: FrameType | None) -> None:
        handle(number, before[number])

    for number in before:
        signal.signal(number, called)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
