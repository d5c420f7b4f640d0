"""The Ray cluster: how to connect to it, and what room there is on it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from mercore.errors import RunError
from mercore.machine import Machine

_CURE = "start one (`ray start --head`), or give --address: HOST:PORT, or local for a new one"
_SECONDS = 5.0  # until an address is given up; Ray itself tries for minutes


@dataclass(frozen=True)
class Room:
    """What each of some workers gets of the cluster."""

    device: str
    """``cuda``, one GPU each, or ``cpu``."""
    workers: int
    cores: int

    @property
    def options(self) -> dict[str, int]:
        """The same, as Ray is told it."""
        return {"num_cpus": self.cores, "num_gpus": int(self.device == "cuda")}


def connect(address: str) -> None:
    """Connect this process to the cluster; it stays so until it ends.

    Does nothing where it is connected. Raises RunError where there is no cluster.
    """
    if ray.is_initialized():
        return
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints notices of nodes and workers that end among the results, and has no switch for it.
    ray._private.worker._worker_logs_enabled = False
    try:
        host, _, port = address.partition(":")
        if port:
            socket.create_connection((host, int(port)), _SECONDS).close()
        with _signals_kept():
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # of several kinds, by what is wrong
        first = str(error).strip().partition(". ")[0]
        cure = "/tmp/ray/session_latest/logs says more" if address == "local" else _CURE
        raise RunError(f"no Ray cluster at address {address!r}: {first}; {cure}") from error


def said(error: Exception) -> str:
    """Return what is of use in the message of one of Ray's errors: below a traceback, the end."""
    return str(error).strip().splitlines()[-1].strip()


def room_for(machine: Machine) -> Room:
    """Return the room for the workers of an extraction.

    One a GPU or, without any, one a node, unless the machine says how many; they share the cores.
    """
    nodes = _nodes()
    device = device_of(machine)
    counts = [int(node.get("GPU" if device == "cuda" else "CPU", 0)) for node in nodes]
    usual = sum(counts) if device == "cuda" else len([count for count in counts if count])
    workers = machine.workers or usual or 1
    return Room(device, workers, share(nodes, workers, device))


def room_for_fits(machine: Machine, cores: int) -> Room:
    """Return the room for a training that has work for so many cores."""
    most = max((int(node.get("CPU", 0)) for node in _nodes()), default=0)
    return Room(device_of(machine), 1, max(1, min(cores, most)))


def device_of(machine: Machine) -> str:
    """Return ``cuda`` or ``cpu``; ``auto`` is ``cuda`` where the cluster has a GPU."""
    there = any(node.get("GPU") for node in _nodes())
    if machine.device == "cuda" and not there:
        raise RunError("device 'cuda': no node of the Ray cluster has a GPU; use --device cpu")
    return "cuda" if there and machine.device != "cpu" else "cpu"


def _nodes() -> list[Mapping[str, float]]:
    """Return the resources of each node."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def share(nodes: Sequence[Mapping[str, float]], workers: int, device: str) -> int:
    """Return how many cores each worker may have so that all find room, and one at least."""

    def places(node: Mapping[str, float], cores: int) -> int:
        found = int(node.get("CPU", 0)) // cores
        return min(found, int(node.get("GPU", 0))) if device == "cuda" else found

    most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    fitting = (c for c in range(most, 0, -1) if sum(places(n, c) for n in nodes) >= workers)
    return next(fitting, 1)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what this process does when it is told to end, which Ray would change."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
