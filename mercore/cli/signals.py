"""Ctrl-C and a scheduler's SIGTERM: the first ends a command in order, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """A signal told the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.status = 128 + number
        """The exit status by which a shell knows the signal."""


@contextmanager
def stoppable(said: str = "") -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise Stopped, and the second end the process at once.

    `said` is printed to stderr at the first. A signal that is ignored, as SIGINT is in the
    background of a script, stays so. Only the main thread may do this: in another nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        _say(said)
        raise Stopped(number)

    for number in heeded:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in heeded.items():
            signal.signal(number, old)


def _say(text: str) -> None:
    """Print to stderr with one system call: what a signal interrupts may be printing itself."""
    if text:
        # The second signal leaves no time to bring back the cursor that progress bars hide.
        start = f"{_SHOW_CURSOR}\r" if sys.stderr.isatty() else ""
        os.write(2, f"{start}{text}\n".encode())
