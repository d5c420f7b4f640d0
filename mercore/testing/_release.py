"""Whether what a function held is gone once the function is: tensors, arrays, sessions."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from logging import Logger
from types import CodeType, FrameType, FunctionType, ModuleType
from weakref import ReferenceType, ref

import numpy as np

Reference = ReferenceType[object]

# Not the modules of torch: they hold tensors, and FunASR shares some that hold none.
_HOLDERS = (
    ("numpy", "ndarray"),
    ("torch", "Tensor"),
    ("onnxruntime", "InferenceSession"),
    ("faster_whisper", "WhisperModel"),
)
_OUTSIDE = (type, ModuleType, FrameType, CodeType, Logger, str, bytes, int, float)
"""What is not looked into: it belongs to no function alone, or holds nothing."""
_STEPS = 6
"""How far from the thing that is still held the one who holds it is looked for."""


def references(function: object) -> list[Reference]:
    """Return weak references to the tensors, arrays and sessions a function holds.

    Those of closures, attributes and containers, at any depth; not those of a function's module.
    """
    holders = tuple(
        getattr(sys.modules[module], name) for module, name in _HOLDERS if module in sys.modules
    )
    waiting, seen, found = [function], set[int](), []
    while waiting:
        thing = waiting.pop()
        # By the type: some modules hold objects that warn when they are asked for their class.
        kind = type(thing)
        if id(thing) in seen or issubclass(kind, _OUTSIDE):
            continue
        seen.add(id(thing))
        waiting += _parts(thing)
        if issubclass(kind, holders):
            found.append(ref(thing))
    return found


def _parts(thing: object) -> Iterable[object]:
    if isinstance(thing, FunctionType):  # not its globals: they are the module's
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
    if isinstance(thing, np.ndarray):  # which the garbage collector does not look into
        return [thing.base, *(thing.flat if thing.dtype == object else ())]
    return gc.get_referents(thing)


def still_held(found: Iterable[Reference]) -> list[str]:
    """Return a description of each thing that is still there, and of what holds it.

    A constant of a module is no leak: it was there before the function.
    """
    found = list(found)
    if not any(reference() is not None for reference in found):
        return []
    gc.collect()  # a network refers to itself
    constants = {id(value) for names in _modules().values() for value in list(names.values())}
    alive = [thing for reference in found if (thing := reference()) is not None]
    return [_described(thing) for thing in alive if id(thing) not in constants]


def _modules() -> dict[str, dict[str, object]]:
    there = list(sys.modules.items())
    return {name: vars(module) for name, module in there if isinstance(module, ModuleType)}


def _described(thing: object) -> str:
    shape = getattr(thing, "shape", None)
    size = f" {tuple(shape)}" if shape is not None else ""
    keeper = _keeper(thing)
    return f"{type(thing).__name__}{size}" + (f", held through {keeper}" if keeper else "")


def _keeper(thing: object) -> str:
    """Return the name in a module from which the thing is reached, or ``""``."""
    level, seen = [thing], set[int]()
    for _ in range(_STEPS):
        ids = {id(one) for one in level}
        for module, names in _modules().items():
            for name, value in list(names.items()):
                # The garbage collector, asked below, knows no dict that holds arrays alone.
                inside = map(id, list(value.values())) if type(value) is dict else ()
                if not ids.isdisjoint([id(value), *inside]):
                    return f"{module}.{name}"
        seen |= ids
        above = gc.get_referrers(*level)
        level = [one for one in above if id(one) not in seen and not isinstance(one, FrameType)]
    return ""


def allocated(device: str) -> int:
    """Return the bytes that torch's tensors take up on a GPU."""
    import torch

    gc.collect()
    torch.cuda.synchronize(device)
    return int(torch.cuda.memory_allocated(device))
