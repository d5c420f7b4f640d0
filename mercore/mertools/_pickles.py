"""Plain values out of pickled ones, without unpickling: nothing a file names is ever called.

The opcodes are read by ``pickletools``, which runs none of them. Dicts, lists, tuples, texts,
numbers and numpy's arrays and scalars of those are built here, from their bytes; whatever else a
file asks for, a class or a function by its name above all, ends the reading with an error.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_NAMES = {
    f"{core}.multiarray {name}": name
    for core in ("numpy.core", "numpy._core")
    for name in ("_reconstruct", "scalar")
} | {"numpy ndarray": "ndarray", "numpy dtype": "dtype"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DEPTH = 20  # of dicts in dicts; a corpus has two, and a file may hold itself


class RefusedError(ValueError):
    """A pickle holds something else than plain values, or is damaged."""


@dataclass(eq=False)
class _Made:
    """What a pickle asks to be made of arguments, and the state it is to be given."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class _Name:
    """A function or class of numpy, by its name alone."""

    name: str


def read_pickle(data: bytes) -> object:
    """Return the plain value that is pickled; raises RefusedError for any other."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        (value,) = machine.stack
        return _Plain().value(value)
    except RefusedError:
        raise
    # Whatever a damaged file leads to: a stack that is empty, an argument that is none.
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"damaged: {error}") from error


class _Machine:
    """The stack of a pickle; names stay names, and calls stay what they are to be called with."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        if name == "MEMOIZE":  # half of all
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._fold(_TUPLES[name])
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._other(name, argument)

    def _other(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "MARK":
                self._below.append(stack)
                self.stack = []
            case "TUPLE":
                self._since_mark().append(tuple(stack))
            case "LIST":
                self._since_mark().append(stack)
            case "DICT":
                self._since_mark().append(_pairs(stack))
            case "APPENDS":
                self._since_mark()[-1].extend(stack)
            case "SETITEMS":
                self._since_mark()[-1].update(_pairs(stack))
            case "APPEND":
                value = stack.pop()
                stack[-1].append(value)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].update(_pairs([key, value]))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case _:
                self._named(name, argument)

    def _named(self, name: str, argument: Any) -> None:
        """Do what an opcode says that is about a function or a class."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(_known(argument))
            case "STACK_GLOBAL":
                last = stack.pop()
                stack.append(_known(f"{stack.pop()} {last}"))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_Made(function.name, arguments))
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case _:
                raise RefusedError(f"found the opcode {name}")

    def _since_mark(self) -> list[Any]:
        """Return the stack as it was at the last mark, which is the stack from now on."""
        self.stack = self._below.pop()
        return self.stack

    def _fold(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]


def _known(name: str) -> _Name:
    if name not in _NAMES:
        raise RefusedError(f"found {name.replace(' ', '.')!r}")
    return _Name(_NAMES[name])


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if any(isinstance(key, tuple) for key in keys):  # to hash a deep one exhausts the C stack
        raise RefusedError("found a tuple as a key")
    return dict(zip(keys, items[1::2], strict=True))


class _Plain:
    """Turns what a pickle describes into plain values, each once."""

    def __init__(self) -> None:
        self._done: dict[int, object] = {}

    def value(self, given: Any, depth: int = 0) -> object:
        """Return the plain value; the array of one object is that object."""
        if depth > _DEPTH:
            raise RefusedError(f"more than {_DEPTH} containers inside each other")
        if isinstance(given, str | bytes | int | float | None):
            return given
        if id(given) not in self._done:
            self._done[id(given)] = self._made(given, depth + 1)
        return self._done[id(given)]

    def _made(self, given: Any, depth: int) -> object:
        if isinstance(given, dict):
            return {self.value(key, depth): self.value(v, depth) for key, v in given.items()}
        if isinstance(given, list | tuple):
            return [self.value(item, depth) for item in given]
        if isinstance(given, _Made) and given.name == "scalar":
            return _scalar(*given.arguments)
        if isinstance(given, _Made) and given.name == "_reconstruct":
            return self._array(*given.state[1:], depth=depth)
        raise RefusedError(f"found {given.name!r}")  # its arguments may be of any size

    def _array(
        self, shape: tuple[int, ...], kind: Any, fortran: bool, content: Any, *, depth: int
    ) -> object:
        if kind.arguments[0] in ("O", "O8"):
            items = [self.value(item, depth) for item in content]
            return items[0] if shape == () else items
        array = np.frombuffer(content, _dtype(kind))
        return array.reshape(shape, order="F" if fortran else "C").tolist()


def _scalar(kind: Any, content: bytes) -> object:
    if not re.fullmatch(r"U\d+", kind.arguments[0]):
        return np.frombuffer(content, _dtype(kind)).reshape(()).item()
    # numpy itself trusts that these bytes are characters.
    return content.decode("utf-32-be" if kind.state[1] == ">" else "utf-32-le").rstrip("\0")


def _dtype(kind: Any) -> np.dtype[Any]:
    """Return a data type of numbers, from its name and the byte order it is given."""
    name = kind.arguments[0]
    if not isinstance(name, str) or not re.fullmatch(r"[biuf]\d{1,2}", name):
        raise RefusedError(f"found the data type {name!r}")
    order: Any = kind.state[1] if kind.state else "|"
    return np.dtype(name).newbyteorder(order)
