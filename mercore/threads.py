"""How many threads the numeric libraries of this process use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "OMP_NUM_THREADS"


def cores() -> int:
    """Return how many cores there are to use: OMP_NUM_THREADS, else those of this process."""
    given = os.environ.get(_VARIABLE, "")
    if given.isdigit() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let torch, and libraries loaded meanwhile, use `count` threads for one operation.

    The number also decides the order of sums, so it is always set: results repeat bit for bit
    whether or not torch was loaded before.
    """
    before, usual = os.environ.get(_VARIABLE), _torch_threads() or cores()
    os.environ[_VARIABLE] = str(max(1, count))
    _set_torch_threads(max(1, count))
    try:
        yield
    finally:
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
