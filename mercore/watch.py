"""Who is told how long work goes on; `mer` shows it as progress bars."""

from __future__ import annotations

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
