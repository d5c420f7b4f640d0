"""Who is told how long work goes on; `mer` shows it as progress bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from mercore.events import Event


class Watch(Protocol):
    """Is told how extraction and training go on; any of it may come from several threads."""

    def start(self, name: str, total: int) -> None:
        """Begin work on `total` samples."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Count samples that are committed."""

    def note(self, event: Event) -> None:
        """Be told of one of ``mercore.events``."""


class Silent:
    """A Watch that shows nothing."""

    def start(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Do nothing."""

    def note(self, event: Event) -> None:
        """Do nothing."""


class Several:
    """A Watch that tells others, one after another."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = tuple(watches)

    def start(self, name: str, total: int) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.start(name, total)

    def advance(self, name: str, done: int, failed: int) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.advance(name, done, failed)

    def note(self, event: Event) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.note(event)


class Terminal(Silent):
    """Asks for progress bars on stderr while a piece of work lasts, and for nothing between."""


@contextmanager
def showing(watch: Watch) -> Iterator[Watch]:
    """Give the Watch for one piece of work: bars in place of ``Terminal``, any other as it is."""
    if not isinstance(watch, Terminal):
        yield watch
        return
    from mercore.progress import Bars  # rich takes a while to import

    with Bars() as bars:
        yield bars
