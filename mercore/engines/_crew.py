"""The workers of one stream or feature, from their start to their end, wherever they run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from mercore.engines._handout import Handout
from mercore.engines._messages import STOP, Ask, Committed, Ending, Failed, Loaded, Task, Told
from mercore.errors import InputError, RunError
from mercore.events import SampleFailed
from mercore.extraction import Extraction, Seconds
from mercore.manifest import Sample
from mercore.reader import Item

_LOOK = 0.2  # seconds between looks at whether the run is to end
_STREAK = 4  # samples in a row that would have ended their workers: the machine is at fault


@dataclass(frozen=True)
class End:
    """How a worker ended."""

    how: str
    blameless: bool = False
    """Whether no sample can have caused it, as when its machine goes away."""


class Line(Protocol):
    """What connects to a worker."""

    @property
    def handles(self) -> Sequence[Any]:
        """What to wait for, to hear it next."""

    def hear(self) -> tuple[Sequence[object], bool]:
        """Return what the worker has said since, and whether there may be more to come."""

    def send(self, answer: object) -> None:
        """Send it something; nothing happens where it has ended."""

    def kill(self) -> None:
        """End it at once."""

    def close(self) -> End:
        """Wait for its end, and return how it was."""


class Place(Protocol):
    """Where workers run."""

    @property
    def cores(self) -> int:
        """How many cores a worker may use."""

    @property
    def cure(self) -> str:
        """What to look at where a worker ends before its component is loaded."""

    def start(self, packed: bytes, name: str, device: str) -> Line:
        """Start a worker on a Task; the name says what it is for."""

    def wait(self, handles: list[Any], seconds: float) -> Iterable[Any]:
        """Return those behind which there is something to hear, after so many seconds at most."""


@dataclass
class _Worker:
    """A worker as it is seen from here."""

    number: int
    device: str
    line: Line
    began: float
    loaded: bool = False
    waiting: bool = False
    """Whether it has asked and is not answered yet."""
    dismissed: bool = False
    """Whether it was told that there is no more."""
    reason: str = ""
    """Why it ends, where it said so."""
    seconds: Seconds = field(default_factory=Seconds)


class Crew:
    """Workers that share the samples of one handout."""

    def __init__(self, extraction: Extraction, handout: Handout, place: Place) -> None:
        self._extraction = extraction
        self._handout = handout
        self._place = place
        self._workers: dict[int, _Worker] = {}
        self._all: list[_Worker] = []
        self._size = 0
        self._deaths = 0
        """Workers that have ended since a sample was last committed."""
        self._settled = extraction.target.settled()

    def run(self, devices: Sequence[str]) -> None:
        """Have the samples extracted by a worker on each of the devices."""
        self._size = len(devices)
        try:
            for device in devices:
                self._start(device)
            while self._workers:
                self._attend()
        finally:
            self._stop()
            for worker in self._workers.values():
                worker.line.close()
            self._count()

    def _start(self, device: str) -> None:
        work, node = self._extraction.work, self._extraction.node
        machine, cores = work.machine.of_worker(device), self._place.cores
        task = Task(node, work.pipeline, work.store, machine, cores, work.retry_failed)
        line = self._place.start(_packed(task), node.name, device)
        worker = _Worker(len(self._all), device, line, time.perf_counter())
        self._workers[worker.number] = worker
        self._all.append(worker)

    def _attend(self) -> None:
        """Hear what the workers say next, and answer those that ask."""
        told = {handle: w.number for w in self._workers.values() for handle in w.line.handles}
        for number in {told[handle] for handle in self._place.wait(list(told), _LOOK)}:
            self._hear(self._workers[number])
        if self._extraction.work.stop.is_set():
            self._stop()
            return
        for worker in self._workers.values():
            if worker.waiting:
                self._answer(worker)
            elif self._handout.over and not worker.loaded and not worker.dismissed:
                worker.dismissed = True
                worker.line.kill()

    def _hear(self, worker: _Worker) -> None:
        messages, more = worker.line.hear()
        for message in messages:
            self._take(worker, message)
        if not more:
            self._ended(worker)

    def _take(self, worker: _Worker, message: object) -> None:
        match message:
            case Loaded():
                worker.loaded = True
                worker.seconds.load = time.perf_counter() - worker.began
            case Ask():
                worker.waiting = True
            case Committed():
                self._committed(worker, message)
            case Told():
                self._extraction.work.watch.note(message.event)
            case Ending():
                worker.reason = message.reason
            case Failed():
                raise message.error

    def _committed(self, worker: _Worker, message: Committed) -> None:
        worker.seconds = replace(message.seconds, load=worker.seconds.load)
        self._handout.done(worker.number, message.ids)
        self._deaths = 0
        self._settled = self._settled or self._extraction.target.settled()
        work, name = self._extraction.work, self._extraction.node.name
        work.watch.advance(name, len(message.ids), message.failed)

    def _answer(self, worker: _Worker) -> None:
        part = self._handout.next(worker.number, one=not self._settled)
        if part is None:
            return
        worker.waiting = False
        worker.dismissed = not part and not self._handout.holds(worker.number)
        worker.line.send(list(part))

    def _ended(self, worker: _Worker) -> None:
        """See to what a worker leaves behind."""
        del self._workers[worker.number]
        end = worker.line.close()
        if worker.dismissed or self._extraction.work.stop.is_set():
            return
        if end.blameless:
            self._handout.returned(worker.number)
        else:
            self._blame(worker, worker.reason or end.how)
        if self._handout.open:
            self._start(worker.device)

    def _blame(self, worker: _Worker, how: str) -> None:
        """Take note that what the worker held may have ended it."""
        name, retries = self._extraction.node.name, self._extraction.work.machine.retries
        if not worker.loaded:
            raise RunError(
                f"{name}: the worker process on {worker.device!r} ended ({how}) before its "
                f"component was loaded; {self._place.cure}"
            )
        lost = self._handout.lost(worker.number)
        if lost:
            self._give_up(lost, how)
        self._deaths += 1
        if self._deaths >= self._size + _STREAK * retries:
            raise RunError(
                f"{name}: {self._deaths} worker processes in a row ended, the last by {how}; "
                "mend that and run again with --retry-failed"
            )

    def _give_up(self, sample: Sample, how: str) -> None:
        """Commit the sample as failed."""
        extraction, retries = self._extraction, self._extraction.work.machine.retries
        times = "once" if retries == 1 else f"{retries} times"
        error = InputError(f"ended the worker process ({how}) {times}")
        source = ""
        with suppress(InputError):
            source = extraction.work.sources.identity(sample, extraction.node.roots)
        extraction.target.commit([Item(sample, source=source)], [error])
        extraction.seconds.samples += 1
        extraction.work.watch.note(SampleFailed(extraction.node.name, sample.id, str(error)))
        extraction.work.watch.advance(extraction.node.name, 1, 1)

    def _stop(self) -> None:
        """Let each worker end after its batch in flight; one that still loads has none."""
        for worker in self._workers.values():
            if not worker.loaded:
                worker.line.kill()
            elif not worker.dismissed:
                worker.dismissed = True
                worker.line.send(STOP)

    def _count(self) -> None:
        """Add what the workers noted; they loaded side by side."""
        total = self._extraction.seconds
        for part in fields(Seconds):
            spent = [getattr(worker.seconds, part.name) for worker in self._all]
            whole = max(spent, default=0) if part.name == "load" else sum(spent)
            setattr(total, part.name, getattr(total, part.name) + whole)


def _packed(task: Task) -> bytes:
    """Return the task as bytes; raises RunError where its component cannot be sent."""
    try:
        return bytes(ForkingPickler.dumps(task))
    except Exception as error:  # pickle raises what it likes
        raise RunError(
            f"{task.node.name}: cannot be sent to a worker process: {error}; leave out --devices; "
            f"`mer plugins test {task.node.component.name}` says more"
        ) from error
