"""What workers and the process that hands out the work say to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mercore.events import Event
from mercore.extraction import Seconds
from mercore.machine import Machine
from mercore.pipeline import Node, Pipeline
from mercore.store import Store

STOP = "stop"
"""What a worker is sent, asked for or not, to end after its batch in flight."""


@dataclass(frozen=True)
class Task:
    """What a worker is started with."""

    node: Node
    pipeline: Pipeline
    store: Store
    machine: Machine
    cores: int
    """How many it may use."""
    retry_failed: bool


@dataclass(frozen=True)
class Loaded:
    """The component is loaded."""


@dataclass(frozen=True)
class Ask:
    """The worker wants its next part; the answer is a list of samples."""


@dataclass(frozen=True)
class Committed:
    """A batch is in the store."""

    ids: Sequence[str]
    failed: int
    seconds: Seconds
    """Of all the worker has done."""


@dataclass(frozen=True)
class Told:
    """What a worker has to say of a sample or a batch."""

    event: Event


@dataclass(frozen=True)
class Ending:
    """The worker ends, as one that is killed does: its device is of no use any more."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """The worker cannot go on, and no other could."""

    error: Exception
