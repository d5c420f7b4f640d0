"""The engine of one machine: worker processes, one a device."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Event
from typing import Any

from mercore.engines._crew import Crew, End, Line
from mercore.engines._handout import Handout
from mercore.engines._lengths import order_of
from mercore.engines._worker import work
from mercore.extraction import Extraction
from mercore.machine import cores
from mercore.manifest import Sample


@dataclass(frozen=True)
class Processes:
    """The engine that extracts in worker processes, one for each of the devices."""

    devices: Sequence[str]
    retries: int

    def extract(self, extraction: Extraction, todo: Sequence[Sample]) -> None:
        """See ``Engine``."""
        extraction.work.machine.check_devices()
        devices = self.devices[: len(todo)]
        handout = Handout(todo, order_of(extraction, todo), len(devices), self.retries)
        Crew(extraction, handout, _Here(cores())).run(devices)


@dataclass(frozen=True, eq=False)
class _Process:
    """The line to a worker process."""

    process: SpawnProcess
    connection: Connection

    @property
    def handles(self) -> Sequence[Any]:
        """See ``Line``."""
        return self.connection, self.process.sentinel

    def hear(self) -> tuple[Sequence[object], bool]:
        """See ``Line``."""
        messages: list[object] = []
        alive = self.process.is_alive()  # before the last message is read, not after
        try:
            while self.connection.poll():
                messages.append(self.connection.recv())
        except (EOFError, OSError):  # it ended, perhaps within a message
            alive = False
        return messages, alive

    def send(self, answer: object) -> None:
        """See ``Line``."""
        with suppress(OSError):  # it has ended, which is heard next
            self.connection.send(answer)

    def kill(self) -> None:
        """See ``Line``."""
        self.process.kill()

    def close(self) -> End:
        """See ``Line``."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode
        return End(f"signal {-code}" if code is not None and code < 0 else f"exit status {code}")


@dataclass(frozen=True)
class _Here:
    """The machine itself, as the place of workers."""

    cores: int
    cure: str = "a script that uses `devices` begins its work below `if __name__ == '__main__':`"

    def start(self, packed: bytes, name: str, device: str) -> Line:
        """See ``Place``."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, packed), name=f"{name} on {device}")
        with _without_interrupts():
            process.start()
        there.close()  # the worker has its own: the pipe ends with it
        return _Process(process, here)

    def wait(self, handles: list[Any], seconds: float) -> Iterable[Any]:
        """See ``Place``."""
        return wait(handles, timeout=seconds)


def _work(connection: Connection, packed: bytes) -> None:
    """Be a worker process; where its parent ends without a word, so does this."""
    stop = Event()
    # What a scheduler sends to all processes of a job.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with suppress(BrokenPipeError, ConnectionResetError):
        work(connection, packed, stop)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: their parent tells them to end."""
    resource_tracker.ensure_running()  # it would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
