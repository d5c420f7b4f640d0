"""Ctrl-C and a scheduler's SIGTERM: the first ends a command in order, the second at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mercore.signals import heeded, taken

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

    def stop(number: int, before: object) -> NoReturn:
        for each in heeded():
            signal.signal(each, signal.SIG_DFL)
        _say(said)
        raise Stopped(number)

    with taken(stop):
        yield


def _say(text: str) -> None:
    """Print to stderr with one system call: what a signal interrupts may be printing itself."""
    if text:
        # The second signal leaves no time to bring back the cursor that progress bars hide.
        start = f"{_SHOW_CURSOR}\r" if sys.stderr.isatty() else ""
        os.write(2, f"{start}{text}\n".encode())
