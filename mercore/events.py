"""What happens in the course of a run: one type an event, told to whoever watches.

The table of docs/operating.md is compared with these types: the first line of a docstring is what
the table says of the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    kind: ClassVar[str]
    """What it is called in the log."""
    logged: ClassVar[bool] = True
    """Whether the log has it; what happens with every batch is for the metrics alone."""


@dataclass(frozen=True)
class RunStarted(Event):
    """A command began."""

    kind: ClassVar[str] = "run_started"
    command: str
    version: str
    registry: str
    """The path of registry.yaml."""
    fingerprint: str | None
    """12 hexadecimal digits of the SHA-256 of that file; None where it cannot be read."""
    host: str
    pid: int


@dataclass(frozen=True)
class Started(Event):
    """Work on a stream, a feature, the branches or a search began; `todo` is how much there is."""

    kind: ClassVar[str] = "started"
    name: str
    todo: int


@dataclass(frozen=True)
class Progress(Event):
    """How far it is, at most once a second; `rate` is how many a second since the line before."""

    kind: ClassVar[str] = "progress"
    name: str
    todo: int
    done: int
    failed: int
    rate: float


@dataclass(frozen=True)
class SampleFailed(Event):
    """A sample failed, and was committed as failed with the reason."""

    kind: ClassVar[str] = "failed"
    name: str
    sample: str
    reason: str


@dataclass(frozen=True)
class Halved(Event):
    """A batch of so many samples did not fit into memory and is done in two halves."""

    kind: ClassVar[str] = "halved"
    name: str
    samples: int


@dataclass(frozen=True)
class Spent(Event):
    """A batch was committed; the seconds are those of this stream or feature up to now."""

    kind: ClassVar[str] = "spent"
    logged: ClassVar[bool] = False
    name: str
    load: float
    decode: float
    wait: float
    encode: float
    write: float
    wall: float


@dataclass(frozen=True)
class Finished(Event):
    """A stream or feature is up to date: how many samples are new, how many failed in all."""

    kind: ClassVar[str] = "finished"
    name: str
    samples: int
    extracted: int
    failed: int
    load: float
    decode: float
    wait: float
    encode: float
    write: float
    wall: float


@dataclass(frozen=True)
class BranchTrained(Event):
    """A branch was trained; `round` is 0 without pseudo-labels, `waf` is out of fold."""

    kind: ClassVar[str] = "trained"
    branch: str
    round: int
    waf: float
    seconds: float


@dataclass(frozen=True)
class RoundDone(Event):
    """A round of data mining is trained: how many labels it accepted, and how many there are."""

    kind: ClassVar[str] = "round"
    round: int
    accepted: int
    total: int


@dataclass(frozen=True)
class ReportWritten(Event):
    """The report was written."""

    kind: ClassVar[str] = "report"
    path: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The command came to its end; samples may have failed."""

    kind: ClassVar[str] = "run_finished"
    seconds: float


@dataclass(frozen=True)
class RunInterrupted(Event):
    """The command was told to end by a signal; what was under way is committed."""

    kind: ClassVar[str] = "run_interrupted"
    signal: str
    seconds: float


@dataclass(frozen=True)
class RunFailed(Event):
    """An error ended the command."""

    kind: ClassVar[str] = "run_failed"
    error: str
    """The name of its type."""
    message: str
    seconds: float


ENDS = (RunFinished, RunInterrupted, RunFailed)
"""How a command may end."""
