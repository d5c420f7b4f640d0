"""A graph in ONNX Runtime: what it takes and gives, checked against what is asked of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mercore.errors import CheckpointError, InputError, did_you_mean
from mercore.media import FloatArray
from mercore.nn import onnx_session

Array = NDArray[Any]

_FLOATS: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_TYPES: Final = {
    **_FLOATS,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Slot:
    """One input of a graph."""

    name: str
    kind: str
    """As ONNX Runtime writes it: ``tensor(float)``."""
    shape: tuple[int | None, ...]
    """None for an axis of any length."""

    def __str__(self) -> str:
        """Return name, type and shape, for messages."""
        axes = ", ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name!r} {self.kind} ({axes})"


class Graph:
    """The graph of a file, on `device`; `output` is the name of the output to take.

    Raises CheckpointError where there is no such output, none or several where none is named, or
    it holds anything but floats.
    """

    def __init__(self, file: Path, device: str, output: str | None) -> None:
        self.file = file
        self._session = onnx_session(file, device)
        self.inputs = {one.name: _slot(one) for one in self._session.get_inputs()}
        outputs = {one.name: _slot(one) for one in self._session.get_outputs()}
        if output is None and len(outputs) > 1:
            raise CheckpointError(
                f"{file}: has {len(outputs)} outputs; give option 'output', one of "
                f"{_named(outputs)}"
            )
        self._output = output or next(iter(outputs))
        if self._output not in outputs:
            raise self._lacks("output", self._output, outputs)
        if outputs[self._output].kind not in _FLOATS:
            raise CheckpointError(
                f"{file}: output {outputs[self._output]} holds no floats; give another 'output', "
                f"one of {_named(outputs)}"
            )

    def slot(self, name: str | None, rest: Collection[str | None] = ()) -> Slot:
        """Return the input of that name, or the only one that is not in `rest`.

        Raises CheckpointError that says which there are.
        """
        if name is None:
            left = [own for own in self.inputs if own not in rest]
            if len(left) != 1:
                raise CheckpointError(
                    f"{self.file}: which input to use is not clear; give its name as 'input', one "
                    f"of {_named(self.inputs)}"
                )
            name = left[0]
        if name not in self.inputs:
            raise self._lacks("input", name, self.inputs)
        found = self.inputs[name]
        if found.kind not in _TYPES:
            raise CheckpointError(f"{self.file}: input {found} takes no numbers; export another")
        return found

    def require(self, fed: Collection[str]) -> None:
        """Raise CheckpointError unless every input of the graph is among those that are `fed`."""
        hungry = {name: slot for name, slot in self.inputs.items() if name not in fed}
        if hungry:
            raise CheckpointError(
                f"{self.file}: also takes {_named(hungry)}, which nothing gives; the options feed "
                f"{', '.join(map(repr, fed))}; export the network without those inputs"
            )

    def run(self, fed: Mapping[str, Array]) -> FloatArray:
        """Return the output as float32; arrays are converted to the types of the inputs.

        Raises InputError where the graph fails on them, as on audio that is too short.
        """
        typed: dict[str, Array] = {
            name: np.ascontiguousarray(array, _TYPES[self.inputs[name].kind])
            for name, array in fed.items()
        }
        try:
            output: FloatArray = self._session.run([self._output], typed)[0]
        except Exception as error:  # its errors have no base of their own
            shapes = ", ".join(f"{name} {array.shape}" for name, array in typed.items())
            reason = " ".join(str(error).split())
            raise InputError(f"the graph does not take {shapes}: {reason}") from error
        return output.astype(np.float32)

    def _lacks(self, what: str, name: str, known: Mapping[str, Slot]) -> CheckpointError:
        hint = did_you_mean(name, known)
        return CheckpointError(f"{self.file}: has no {what} {name!r}; it has {_named(known)}{hint}")


def _slot(found: Any) -> Slot:
    shape = tuple(axis if isinstance(axis, int) else None for axis in found.shape or ())
    return Slot(found.name, found.type, shape)


def _named(slots: Mapping[str, Slot]) -> str:
    return ", ".join(map(str, slots.values()))
