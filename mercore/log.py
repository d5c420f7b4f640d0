"""The log of a run: one JSON object a line, as docs/operating.md lists them."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType

from mercore.counts import Count
from mercore.errors import RunError
from mercore.events import Event, Progress, Started

_PAUSE = 1.0  # seconds between two lines about the progress of one thing


class Log:
    """A Watch that adds a line to a file for each event; other processes may add theirs too.

    A context manager, which closes the file at the end.
    """

    def __init__(self, path: str | Path, warn: Callable[[str], None]) -> None:
        """Open the file; RunError where it cannot be written.

        `warn` is told once when a line cannot be written later, such as on a full disk: that ends
        no run.
        """
        self._lines = _Lines(Path(path), warn)
        self._run = secrets.token_hex(4)  # tells the lines of one process from those of another
        self._counts: dict[str, Count] = {}
        self._lock = Lock()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()

    def start(self, name: str, total: int) -> None:
        """Write ``started``."""
        with self._lock:
            self._counts[name] = Count(total)
            self._write(Started(name, total))

    def advance(self, name: str, done: int, failed: int) -> None:
        """Write ``progress``, if the last is a second ago or all is done."""
        with self._lock:
            count = self._counts[name]
            count.add(done, failed)
            if count.done >= count.todo or time.monotonic() - count.looked >= _PAUSE:
                count.look()
                rate = round(count.rate, 3)
                self._write(Progress(name, count.todo, count.done, count.failed, rate))

    def note(self, event: Event) -> None:
        """Write the event."""
        with self._lock:
            if event.logged:
                self._write(event)

    def _write(self, event: Event) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {name: _plain(value) for name, value in asdict(event).items()}
        common = {"time": at, "run": self._run, "event": event.kind}
        text = json.dumps(common | about, ensure_ascii=False)
        # A name on the disk need not be UTF-8: what cannot be encoded becomes an escape of JSON.
        self._lines.add(text.encode("utf-8", "backslashreplace") + b"\n")


def _plain(value: object) -> object:
    """Return the value as JSON has it: seconds to the microsecond, null for NaN."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


class _Lines:
    """A file that lines are added to, each with one write and nothing held back."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._warned = False
        self._torn = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the run
        except OSError as error:
            raise RunError(
                f"log {str(path)!r}: cannot write it: {error.strerror}; give a file that you may "
                "write to"
            ) from error

    def add(self, line: bytes) -> None:
        """Write the line; a failure is told once, and the next line is tried again."""
        data = b"\n" + line if self._torn else line
        try:
            written = self._file.write(data) or 0
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        self._torn = written < len(data)
        if self._torn:  # the disk is full; what follows begins on a line of its own
            self._failed("only part of a line was written")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _failed(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"log {str(self._path)!r}: cannot write it: {reason}; the run goes on")
