"""The processes that train together, as PyTorch's launcher tells each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def world() -> int:
    """Return how many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of them this one is, from 0."""
    return int(os.environ.get("RANK", "0"))


def take_device(device: str) -> None:
    """Let ``cuda`` mean another GPU in each of the processes; `device` is what they train on."""
    if world() > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")


@contextmanager
def one_first() -> Iterator[None]:
    """Let one of the processes do it, and then the others."""
    if world() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield
