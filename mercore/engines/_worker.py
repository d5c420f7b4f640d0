"""A worker: it loads the component once, and extracts what it is handed.

It asks over a line and is answered over it; results go into the store. Where it runs, in a process
beside its parent or on another machine, is for the line to know.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from itertools import chain
from multiprocessing.reduction import ForkingPickler
from threading import Event as Flag
from typing import Protocol

from mercore.batches import Batch
from mercore.engines._messages import STOP, Ask, Committed, Ending, Failed, Loaded, Task, Told
from mercore.errors import DeviceError, MercoreError, RunError
from mercore.events import Event
from mercore.extraction import Extraction, Work, load
from mercore.machine import limited
from mercore.manifest import Sample
from mercore.watch import Silent

INSTALL = "install the same mercore, plugins and weights on every node"


class Upward(Protocol):
    """The worker's end of its line, such as a ``multiprocessing`` connection."""

    def send(self, message: object, /) -> None:
        """Say something."""

    def recv(self) -> object:
        """Return what was sent to the worker; waits for it."""

    def poll(self) -> bool:
        """Return whether something was."""


def work(
    line: Upward, packed: bytes, stop: Flag, check: Callable[[Task], None] = lambda task: None
) -> None:
    """Do what is handed out until there is no more; `packed` is a Task.

    Once `stop` is set it ends after the batch in flight. `check` raises a MercoreError where the
    task cannot be done here.
    """
    try:
        task = _unpacked(packed)
        check(task)
        _Worker(line, task, stop).run()
    except DeviceError as error:
        line.send(Ending(str(error.__cause__)))
    except Exception as error:
        line.send(Failed(sendable(error)))


def _unpacked(packed: bytes) -> Task:
    try:
        task = ForkingPickler.loads(packed)
    except ImportError as error:
        raise RunError(f"{socket.gethostname()}: {error}; {INSTALL}") from error
    assert isinstance(task, Task)
    return task


def sendable(error: Exception) -> Exception:
    """Return the error as another process raises it; of a bug its traceback is in the words."""
    if type(error).__module__ == MercoreError.__module__:
        return error
    if isinstance(error, MercoreError):  # of a plugin: who knows how it is made
        return MercoreError(str(error))
    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))


class _Worker(Silent):
    """The work itself; as a Watch it hears how many samples of a batch failed."""

    def __init__(self, line: Upward, task: Task, stop: Flag) -> None:
        self._line = line
        self._task = task
        self._work = Work(
            task.pipeline,
            (),
            task.store,
            task.machine,
            self,
            retry_failed=task.retry_failed,
            stop=stop,
        )
        self._failed = 0

    def run(self) -> None:
        """Load, then do part after part."""
        with limited(self._task.cores):
            function = load(self._task.node, self._work)
            self._line.send(Loaded())
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
        self._line.send(Told(event))

    def _next(self) -> list[Sample]:
        """Return the next part; empty where there is none, for now or at all."""
        if self._work.stop.is_set():
            return []
        self._line.send(Ask())
        answer = self._line.recv()
        if answer == STOP:
            self._work.stop.set()
            return []
        assert isinstance(answer, list)
        return answer

    def _tell(self, batch: Batch, extraction: Extraction) -> None:
        ids = [item.sample.id for item in batch]
        self._line.send(Committed(ids, self._failed, extraction.seconds))
        if self._line.poll():  # unasked: it can only be STOP
            self._line.recv()
            self._work.stop.set()
