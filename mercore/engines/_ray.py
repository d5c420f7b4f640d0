"""The engine of a Ray cluster: an actor for each worker, on whichever node has room for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError

from mercore.engines._cluster import Room, connect, room_for, said
from mercore.engines._crew import Crew, End, Line
from mercore.engines._handout import Handout
from mercore.engines._lengths import order_of
from mercore.engines._messages import Task
from mercore.engines._worker import INSTALL, work
from mercore.errors import RunError
from mercore.extraction import Extraction
from mercore.fingerprints import describe, fingerprint
from mercore.machine import Machine
from mercore.manifest import Sample

_END = "end"
"""What a worker says last."""


@dataclass(frozen=True)
class Ray:
    """The engine that extracts on a Ray cluster."""

    machine: Machine

    @classmethod
    def connected(cls, machine: Machine) -> Ray:
        """Return the engine of the cluster that the machine names."""
        connect(machine.address)
        return cls(machine)

    def extract(self, extraction: Extraction, todo: Sequence[Sample]) -> None:
        """See ``Engine``."""
        room = room_for(self.machine)
        workers = min(room.workers, len(todo))
        lengths = order_of(extraction, todo)
        handout = Handout(todo, lengths, workers, self.machine.retries)
        place = _Cluster(room, os.getcwd(), _files(todo[0], extraction.node.roots))
        Crew(extraction, handout, place).run([room.device] * workers)


def _files(sample: Sample, roots: Sequence[str]) -> list[str]:
    """Return the files of a sample that are here."""
    found = [sample.file(root) for root in roots]
    return [path for path in found if path and os.path.exists(path)]


@dataclass(frozen=True)
class _Cluster:
    """The nodes of the cluster, as the place of workers."""

    room: Room
    folder: str
    """Where `mer` was started: relative paths begin there."""
    files: Sequence[str]
    """Some that every node must have."""
    cure: str = "its node has what it printed in /tmp/ray/session_latest/logs"

    @property
    def cores(self) -> int:
        """See ``Place``."""
        return self.room.cores

    def start(self, packed: bytes, name: str, device: str) -> Line:
        """See ``Place``."""
        made = ray.remote(_Actor).options(max_concurrency=2, **self.room.options)
        return _Remote(made.remote(packed, self.folder, self.files))

    def wait(self, handles: list[Any], seconds: float) -> Iterable[Any]:
        """See ``Place``."""
        ray.wait(handles, num_returns=1, timeout=seconds)
        ready, _ = ray.wait(handles, num_returns=len(handles), timeout=0)
        return ready


class _Actor:
    """A worker on a node: one thread works, beside the two in which Ray calls it."""

    def __init__(self, packed: bytes, folder: str, files: Sequence[str]) -> None:
        self._said: SimpleQueue[object] = SimpleQueue()
        self._sent: SimpleQueue[object] = SimpleQueue()
        Thread(target=self._work, args=(packed, folder, files), daemon=True).start()

    def told(self) -> list[object]:
        """Return what the worker has said since; waits until there is something."""
        messages = [self._said.get()]
        while not self._said.empty():
            messages.append(self._said.get())
        return messages

    def answer(self, answer: object) -> None:
        """Give the worker what is sent to it."""
        self._sent.put(answer)

    def send(self, message: object) -> None:
        """See ``Upward``."""
        self._said.put(message)

    def recv(self) -> object:
        """See ``Upward``."""
        return self._sent.get()

    def poll(self) -> bool:
        """See ``Upward``."""
        return not self._sent.empty()

    def _work(self, packed: bytes, folder: str, files: Sequence[str]) -> None:
        try:
            work(self, packed, Event(), lambda task: check_node(task, folder, files))
        finally:
            self.send(_END)


class _Remote:
    """The line to an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._told = actor.told.remote()
        self._lost = False
        """Whether it may have said what was not heard."""
        self._end = End("it ended")

    @property
    def handles(self) -> Sequence[Any]:
        """See ``Line``."""
        return (self._told,)

    def hear(self) -> tuple[Sequence[object], bool]:
        """See ``Line``."""
        try:
            messages = ray.get(self._told)
        except ActorUnavailableError:  # the actor ended, or its node did: Ray finds out which
            self._lost = True
            self._told = self._actor.told.remote()
            return [], True
        except RayError as error:
            self._end = _end_of(error)
            return [], False
        if self._lost:
            self._end = End("it was out of reach", blameless=True)
            return [], False
        if messages[-1] == _END:
            return messages[:-1], False
        self._told = self._actor.told.remote()
        return messages, True

    def send(self, answer: object) -> None:
        """See ``Line``."""
        self._actor.answer.options(num_returns=0).remote(answer)

    def kill(self) -> None:
        """See ``Line``."""
        ray.kill(self._actor)

    def close(self) -> End:
        """See ``Line``."""
        while self.hear()[1]:
            pass
        self.kill()
        return self._end


def _end_of(error: RayError) -> End:
    """Return how a worker ended that did not say; RunError where it could not even begin."""
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise RunError(f"a node of the Ray cluster cannot start a worker: {said(error)}; {INSTALL}")
    if isinstance(error, OutOfMemoryError):
        return End("out of memory")
    return End("it crashed or was killed", blameless="its node has died" in str(error))


def check_node(task: Task, folder: str, files: Sequence[str]) -> None:
    """Raise RunError on a node that does not have what the machine has where `mer` was started."""
    node, who = task.node, socket.gethostname()
    gone = next((path for path in (folder, *files) if not os.path.exists(path)), None)
    if gone is not None:
        raise RunError(
            f"{who}: there is no {gone!r}, as there is where mer was started; the nodes must share "
            "the disk of the clips, of the folder where mer is started and, if not S3, of the store"
        )
    os.chdir(folder)
    collection = task.store.collection(node.groups[0], node.name, node.fingerprint)
    if collection is None:
        raise RunError(
            f"{who}: {task.store.path}: is not the store that it is where mer was started; put it "
            "on a disk that all nodes share, or on S3"
        )
    expected = collection.identity.header["component"]
    if fingerprint(describe(node.component)) != fingerprint(expected):
        raise RunError(
            f"{who}: {node.name}: {node.component.name!r} has another version, or other weights, "
            f"than where mer was started; {INSTALL}"
        )
