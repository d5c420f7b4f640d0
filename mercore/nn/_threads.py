"""Work side by side on the cores, each piece with as many threads as the caller has set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from mercore.machine import cores_outside

In = TypeVar("In")
Out = TypeVar("Out")


def side_by_side(
    action: Callable[[In], Out], pieces: Sequence[In], device: torch.device | str
) -> list[Out]:
    """Return what `action` makes of each piece, in order; on a GPU one after another."""
    workers = cores_outside() if torch.device(device).type == "cpu" else 1
    settings = (torch.get_num_threads(),)
    with ThreadPoolExecutor(workers, initializer=_settle, initargs=settings) as pool:
        return list(pool.map(action, pieces))


def _settle(threads: int) -> None:
    """Prepare a thread of our own.

    Once the training samples are learnt, gradients fall below 1e-38, and arithmetic on such
    subnormal numbers makes a step take two to three times as long: here they become 0.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
