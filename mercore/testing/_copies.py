"""A component in another process: its copies made of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.reduction import ForkingPickler

from mercore.components import Component


def through_bytes(component: Component) -> Iterator[tuple[str, Component]]:
    """Yield copies of a component by how they were made: what multiprocessing does, and Ray.

    Raises whatever they raise for what cannot be copied.
    """
    yield "multiprocessing", ForkingPickler.loads(ForkingPickler.dumps(component))
    if find_spec("cloudpickle"):
        yield "cloudpickle", ForkingPickler.loads(import_module("cloudpickle").dumps(component))
