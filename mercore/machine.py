"""The machine a run is on: its device, its cores, and how much of them is used."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mercore.errors import RunError
from mercore.limits import DEFAULT, Limits

_VARIABLE = "OMP_NUM_THREADS"
_OUTSIDE: ContextVar[int | None] = ContextVar("cores outside of limited", default=None)


@dataclass(frozen=True)
class Machine:
    """Where and how to run; none of it is part of the experiment."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    batch: float = 1.0
    """Scales how much media one batch holds."""
    threads: int = 2
    """Threads that decode ahead."""
    parallel: int = 0
    """Streams and features extracted at once; 0 is two on a CPU with the cores for it, else one."""
    limits: Limits = DEFAULT
    """What a clip may be; one that is more fails alone."""

    def __post_init__(self) -> None:
        if not self.batch > 0:
            raise RunError(f"batch {self.batch!r}: expected a number above 0")

    def at_once(self) -> int:
        """Return how many streams and features are extracted at once."""
        if self.parallel:
            return self.parallel
        # Asking torch whether there is a GPU would import it, also when nothing is to be done.
        alone = self.device.startswith("cuda") or os.path.exists("/dev/nvidiactl")
        return 1 if alone and self.device != "cpu" else min(2, cores())

    def chosen_device(self) -> str:
        """Return the device, with ``auto`` resolved to the first GPU or the CPU."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise RunError(f"device {self.device!r}: expected auto, cpu, cuda or cuda:N")
        if self.device == "cpu":
            return "cpu"
        try:
            import torch

            found = torch.cuda.is_available()
        except ImportError:
            found = False
        if self.device != "auto" and not found:
            raise RunError(f"device {self.device!r}: torch finds no CUDA device; use --device cpu")
        return self.device if self.device != "auto" else "cuda" if found else "cpu"


def cores() -> int:
    """Return how many cores there are to use: OMP_NUM_THREADS, else those of this process."""
    given = os.environ.get(_VARIABLE, "")
    if given.isdigit() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_outside() -> int:
    """Return how many cores there are to use where ``limited`` leaves some of them to others."""
    return _OUTSIDE.get() or cores()


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let torch, and libraries loaded meanwhile, use `count` threads for one operation.

    The number also decides the order of sums, so it is always set: results repeat bit for bit
    whether or not torch was loaded before.
    """
    before, usual = os.environ.get(_VARIABLE), _torch_threads() or cores()
    outside = _OUTSIDE.set(cores_outside())
    os.environ[_VARIABLE] = str(max(1, count))
    _set_torch_threads(max(1, count))
    try:
        yield
    finally:
        _OUTSIDE.reset(outside)
        _set_torch_threads(usual)
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else None


def _set_torch_threads(count: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
