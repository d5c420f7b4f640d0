"""The engine of one machine: worker processes, one a device, and their parent."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler

from mercore.engines._handout import Handout
from mercore.engines._lengths import order_of
from mercore.engines._worker import STOP, Ask, Committed, Ending, Failed, Loaded, Task, Told, work
from mercore.errors import InputError, RunError
from mercore.events import SampleFailed
from mercore.extraction import Extraction, Seconds
from mercore.manifest import Sample
from mercore.reader import Item

_LOOK = 0.2  # seconds between looks at whether the run is to end
_STREAK = 4  # samples in a row that would have ended their workers: the machine is at fault


@dataclass(frozen=True)
class Processes:
    """The engine that extracts in worker processes, one for each of the devices."""

    devices: Sequence[str]
    retries: int

    def extract(self, extraction: Extraction, todo: Sequence[Sample]) -> None:
        """See ``Engine``."""
        extraction.work.machine.check_workers()
        devices = self.devices[: len(todo)]
        lengths = order_of(extraction, todo)
        _Crew(extraction, Handout(todo, lengths, len(devices), self.retries)).run(devices)


@dataclass
class _Worker:
    """A worker process as its parent sees it."""

    number: int
    device: str
    process: SpawnProcess
    connection: Connection
    began: float
    loaded: bool = False
    waiting: bool = False
    """Whether it has asked and is not answered yet."""
    dismissed: bool = False
    """Whether it was told that there is no more."""
    reason: str = ""
    """Why it ends, where it said so."""
    seconds: Seconds = field(default_factory=Seconds)


class _Crew:
    """The workers of one stream or feature, from their start to their end."""

    def __init__(self, extraction: Extraction, handout: Handout) -> None:
        self._extraction = extraction
        self._handout = handout
        self._workers: dict[int, _Worker] = {}
        self._all: list[_Worker] = []
        self._size = 0
        self._deaths = 0
        """Workers that have ended since a sample was last committed."""
        self._settled = extraction.target.settled()

    def run(self, devices: Sequence[str]) -> None:
        """Have the samples extracted on the devices."""
        self._size = len(devices)
        try:
            for device in devices:
                self._start(device)
            while self._workers:
                self._attend()
        finally:
            self._stop()
            for worker in self._workers.values():
                worker.process.join()
            self._count()

    def _start(self, device: str) -> None:
        work_, node = self._extraction.work, self._extraction.node
        machine = replace(work_.machine, device=device, devices="")
        packed = _packed(Task(node, work_.pipeline, work_.store, machine, work_.retry_failed))
        here, there = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(there, packed), name=f"{node.name} on {device}"
        )
        with _without_interrupts():
            process.start()
        there.close()  # the worker has its own: the pipe ends with it
        worker = _Worker(len(self._all), device, process, here, time.perf_counter())
        self._workers[worker.number] = worker
        self._all.append(worker)

    def _attend(self) -> None:
        """Hear what the workers say next, and answer those that ask."""
        told: dict[object, _Worker] = {w.connection: w for w in self._workers.values()}
        ended: dict[object, _Worker] = {w.process.sentinel: w for w in self._workers.values()}
        ready = wait([*told, *ended], timeout=_LOOK)  # type: ignore[list-item]
        for number in {(told | ended)[source].number for source in ready}:
            self._hear(self._workers[number])
        if self._extraction.work.stop.is_set():
            self._stop()
            return
        for worker in self._workers.values():
            if worker.waiting:
                self._answer(worker)

    def _hear(self, worker: _Worker) -> None:
        alive = worker.process.is_alive()  # before the last message is read, not after
        try:
            while worker.connection.poll():
                self._take(worker, worker.connection.recv())
        except (EOFError, OSError):  # it ended, perhaps within a message
            alive = False
        if not alive:
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
        work_, name = self._extraction.work, self._extraction.node.name
        work_.watch.advance(name, len(message.ids), message.failed)

    def _answer(self, worker: _Worker) -> None:
        part = self._handout.next(worker.number, one=not self._settled)
        if part is None:
            return
        worker.waiting = False
        worker.dismissed = not part and not self._handout.holds(worker.number)
        with suppress(OSError):  # it has ended, which is heard next
            worker.connection.send(list(part))

    def _ended(self, worker: _Worker) -> None:
        """See to what a worker leaves behind."""
        del self._workers[worker.number]
        worker.process.join()
        worker.connection.close()
        if worker.dismissed or self._extraction.work.stop.is_set():
            return
        name, how = self._extraction.node.name, worker.reason or _how(worker.process.exitcode)
        if not worker.loaded:
            raise RunError(
                f"{name}: the worker process on {worker.device!r} ended ({how}) before its "
                "component was loaded; a script that uses `devices` begins its work below "
                "`if __name__ == '__main__':`"
            )
        lost = self._handout.lost(worker.number)
        if lost:
            self._give_up(lost, how)
        self._deaths += 1
        if self._deaths >= self._size + _STREAK * self._extraction.work.machine.retries:
            raise RunError(
                f"{name}: {self._deaths} worker processes in a row ended, the last by {how}; "
                "mend that and run again with --retry-failed"
            )
        if self._handout.open:
            self._start(worker.device)

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
                worker.process.kill()
            elif not worker.dismissed:
                worker.dismissed = True
                with suppress(OSError):
                    worker.connection.send(STOP)

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


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: their parent tells them to end."""
    resource_tracker.ensure_running()  # it would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
