"""The figures of a run as a text file in the OpenMetrics format, for Prometheus.

Only counters and gauges are used: the textfile collector of node_exporter reads the older text
format of Prometheus, which refuses other types.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Lock

from mercore.counts import Count
from mercore.errors import RunError
from mercore.events import ENDS, BranchTrained, Event, Finished, RunStarted, Spent
from mercore.folder import replace

_PAUSE = 5.0  # seconds between two files
_PARTS = ("load", "decode", "wait", "encode", "write", "wall")
_CURE = "free some space, check the permissions, or give another --metrics"
_STATES = ("running", *(end.kind.removeprefix("run_") for end in ENDS))

Samples = Iterable[tuple[Mapping[str, str], float]]


class Metrics:
    """A Watch that keeps a file of figures up to date, replaced whole at most every 5 seconds."""

    def __init__(self, path: str | Path, warn: Callable[[str], None]) -> None:
        """Write the file; RunError where it cannot be written.

        `warn` is told once when that fails later: it ends no run.
        """
        self._path = Path(path)
        self._warn = warn
        self._warned = False
        self._lock = Lock()
        self._counts: dict[str, Count] = {}
        self._seconds: dict[str, Mapping[str, float]] = {}
        self._trained = 0
        self._about: Mapping[str, str] = {}
        self._state = _STATES[0]
        self._began = time.time()
        self._save()

    def start(self, name: str, total: int) -> None:
        """Add to what is to be done."""
        with self._lock:
            count = self._counts.setdefault(name, Count(0))
            count.todo += total
            self._update()

    def advance(self, name: str, done: int, failed: int) -> None:
        """Count what is done."""
        with self._lock:
            self._counts[name].add(done, failed)
            self._update()

    def note(self, event: Event) -> None:
        """Take over what the event tells; it is written at once when the run begins or ends."""
        with self._lock:
            if isinstance(event, RunStarted):
                told = {"command": event.command, "version": event.version, "host": event.host}
                self._about = told | {"registry": event.fingerprint or ""}
                self._update(now=True)
            elif isinstance(event, Spent | Finished):
                about = asdict(event)
                self._seconds[event.name] = {part: about[part] for part in _PARTS}
            elif isinstance(event, BranchTrained):
                self._trained += 1
            elif isinstance(event, ENDS):
                self._state = event.kind.removeprefix("run_")
                self._update(now=True)

    def _update(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._saved >= _PAUSE:
            for count in self._counts.values():
                count.look()
            try:
                self._save()
            except RunError as error:
                if not self._warned:
                    self._warned = True
                    self._warn(f"metrics: {error}; the run goes on")

    def _save(self) -> None:
        self._saved = time.monotonic()
        replace(self._path, self._text().encode("utf-8", "backslashreplace"), _CURE)

    def _text(self) -> str:
        """Return the whole file."""
        running = self._state == _STATES[0]
        counts = [({"name": name}, count) for name, count in self._counts.items()]
        families = [
            _gauge("run_info", "What runs, as labels.", [(self._about, 1)]),
            _gauge("run_state", "1 for the state that the run is in.",
                   [({"state": state}, state == self._state) for state in _STATES]),
            _gauge("run_started_timestamp_seconds", "When it began.", [({}, self._began)]),
            _gauge("run_updated_timestamp_seconds", "When this was written.", [({}, time.time())]),
            _gauge("todo", "Samples (branches, trials) to do in this run.",
                   [(labels, count.todo) for labels, count in counts]),
            _counter("done", "Those that are done, failed ones included.",
                     [(labels, count.done) for labels, count in counts]),
            _counter("failed", "Those that failed.",
                     [(labels, count.failed) for labels, count in counts]),
            _gauge("done_per_second", "The rate of the last seconds; 0 once the run has ended.",
                   [(labels, count.rate if running else 0) for labels, count in counts]),
            _counter("seconds", "Where the time went; decoding overlaps with encoding.",
                     [({"name": name, "part": part}, seconds)
                      for name, parts in self._seconds.items() for part, seconds in parts.items()]),
            _counter("branches_trained", "Branches trained, in all rounds.", [({}, self._trained)]),
        ]  # fmt: skip
        return "".join(families) + "# EOF\n"


def _gauge(name: str, about: str, samples: Samples) -> str:
    return _family(name, "gauge", about, "", samples)


def _counter(name: str, about: str, samples: Samples) -> str:
    return _family(name, "counter", about, "_total", samples)


def _family(name: str, kind: str, about: str, suffix: str, samples: Samples) -> str:
    """Return the lines of one metric; the suffix is that of its samples."""
    head = f"# TYPE mercore_{name} {kind}\n# HELP mercore_{name} {about}\n"
    lines = [f"mercore_{name}{suffix}{_labels(labels)} {float(value)!r}\n"
             for labels, value in samples]  # fmt: skip
    return head + "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
