"""Who is told how long work goes on; `mer` shows it as progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Watch(Protocol):
    """Is told how extraction goes on."""

    def start(self, name: str, total: int) -> None:
        """Begin work on `total` samples."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Count samples that are committed."""


class Silent:
    """A Watch that shows nothing."""

    def start(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Do nothing."""


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
