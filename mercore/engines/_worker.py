"""A worker process: it loads the component once, and extracts what it is handed.

It asks over a pipe and is answered over it; results go into the store. Its parent may end without a
word: then the pipe is closed, and so does the worker.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from mercore.batches import Batch
from mercore.errors import DeviceError, MercoreError
from mercore.events import Event
from mercore.extraction import Extraction, Seconds, Work, load
from mercore.machine import Machine, cores, limited
from mercore.manifest import Sample
from mercore.pipeline import Node, Pipeline
from mercore.store import Store
from mercore.watch import Silent

STOP = "stop"
"""What a parent sends, asked or not, to end the worker after its batch in flight."""


@dataclass(frozen=True)
class Task:
    """What a worker is started with."""

    node: Node
    pipeline: Pipeline
    store: Store
    machine: Machine
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


def work(connection: Connection, packed: bytes) -> None:
    """Do what is handed out until there is no more; `packed` is a Task."""
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):  # the parent has ended
        try:
            _Worker(connection, ForkingPickler.loads(packed)).run()
        except DeviceError as error:
            connection.send(Ending(str(error.__cause__)))
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise
        except Exception as error:
            connection.send(Failed(_told(error)))


def _told(error: Exception) -> Exception:
    """Return the error as the parent raises it; of a bug its traceback is in the words."""
    if type(error).__module__ == MercoreError.__module__:
        return error
    if isinstance(error, MercoreError):  # of a plugin: who knows how it is made
        return MercoreError(str(error))
    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))


class _Worker(Silent):
    """The child's end of the pipe; as a Watch it hears how many samples of a batch failed."""

    def __init__(self, connection: Connection, task: Task) -> None:
        self._connection = connection
        self._task = task
        retry = task.retry_failed
        self._work = Work(task.pipeline, (), task.store, task.machine, self, retry_failed=retry)
        self._failed = 0
        # What a scheduler sends to all processes of a job.
        signal.signal(signal.SIGTERM, lambda *_: self._work.stop.set())

    def run(self) -> None:
        """Load, then do part after part."""
        with limited(cores()):
            function = load(self._task.node, self._work)
            self._connection.send(Loaded())
            part = self._next()
            # Not before: by now the store may say what the rows of the collection are like.
            extraction = Extraction(self._task.node, self._work)
            while part and not self._work.stop.is_set():
                parts = chain([part], iter(self._next, []))
                extraction.process(function, parts, lambda batch: self._tell(batch, extraction))
                part = self._next()

    def advance(self, name: str, done: int, failed: int) -> None:
        """Keep how many samples failed, to be told with their batch."""
        self._failed = failed

    def note(self, event: Event) -> None:
        """Pass it on."""
        self._connection.send(Told(event))

    def _next(self) -> list[Sample]:
        """Return the next part; empty where there is none, for now or at all."""
        if self._work.stop.is_set():
            return []
        self._connection.send(Ask())
        answer: list[Sample] | str = self._connection.recv()
        if isinstance(answer, str):
            self._work.stop.set()
            return []
        return answer

    def _tell(self, batch: Batch, extraction: Extraction) -> None:
        ids = [item.sample.id for item in batch]
        self._connection.send(Committed(ids, self._failed, extraction.seconds))
        if self._connection.poll():  # unasked: it can only be STOP
            self._connection.recv()
            self._work.stop.set()
