"""Putting published weights into a module: renamed, cut or joined, each of them accounted for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import init_empty_weights
from torch import nn

from mercore.errors import CheckpointError, listed
from mercore.nn._checkpoint import Checkpoint

_SHOWN = 5

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Rule:
    """Says where the tensors go whose whole name matches `source`."""

    source: str
    """A regular expression."""
    target: str | tuple[str, ...] | None
    r"""The name in the module, with groups of `source` as ``\1``; several names: the tensor is cut
    into as many equal parts along its first dimension; None: the module has no use for it."""
    part: tuple[int, int] = (0, 1)
    """``(i, n)``: it is part i of n that are joined along the first dimension."""


@dataclass(frozen=True)
class _Place:
    target: str
    part: tuple[int, int]
    source: str
    cut: tuple[int, int]
    """``(i, n)``: part i of n of the source."""


def built(make: Callable[[], Module]) -> Module:
    """Return the module that `make` makes, with parameters that take no memory until `fill`."""
    with init_empty_weights(include_buffers=False):
        return make()


def fill(
    module: Module,
    checkpoint: Checkpoint,
    rules: Sequence[Rule] = (),
    *,
    dtype: torch.dtype,
    device: str,
    zeros: str | None = None,
    float32: str | None = None,
) -> Module:
    r"""Return `module`, ready to run, with all its weights taken from `checkpoint`.

    Each tensor is read, converted to `dtype` and moved to `device` one after another, so that the
    host holds little more than the module itself in `dtype`. The first rule whose source matches a
    name says where it goes; a name that no rule matches keeps it. `zeros` matches the parameters
    that may be absent and are then 0, such as the biases of a checkpoint without biases. `float32`
    matches those that get that type in place of `dtype`, such as the ones that are trained.

    Raises CheckpointError that lists the parameters without weights, the weights without a
    parameter, those that two weights claim, and those of another shape.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    places, strange = _placed(checkpoint, rules, wanted)
    absent = [name for name in wanted if name not in places]
    missing = [name for name in absent if not (zeros and re.fullmatch(zeros, name))]
    _refuse(checkpoint, {**_claimed(places), "missing": missing, "not expected": strange})
    misfits = []
    for name, tensor in _arrived(checkpoint, places):
        if tuple(tensor.shape) == wanted[name]:
            exact = float32 and re.fullmatch(float32, name)
            _put(module, name, tensor, torch.float32 if exact else dtype, device)
        else:
            own = ", ".join(place.source for place in places[name])
            misfits.append(f"{own} gives {tuple(tensor.shape)}, expected {wanted[name]}")
    _refuse(checkpoint, {"of another shape": misfits})
    for name in set(absent) - set(missing):
        _put(module, name, torch.zeros(wanted[name]), dtype, device)
    return module.to(device).eval().requires_grad_(False)


def refilled(
    checkpoint: Checkpoint, rules: Sequence[Rule], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the weights of `checkpoint` with `tensors`, a module's, back in their places.

    It undoes what `fill` did by the rules, but for those that join weights. Each weight has the
    type that it had; those that went nowhere, or to none of `tensors`, are as they were.
    """
    compiled = [(re.compile(rule.source), rule) for rule in rules]
    whole = {}
    for name in checkpoint:
        before, places = checkpoint[name], _places(name, compiled)
        assert all(place.part == (0, 1) for place in places), f"{name}: joined to others"
        own = [tensors[place.target] for place in places if place.target in tensors]
        whole[name] = torch.cat(own).to("cpu", before.dtype) if own else before
    return whole


def _placed(
    names: Iterable[str], rules: Sequence[Rule], wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, list[_Place]], list[str]]:
    """Return what goes into each parameter, and the names that go nowhere."""
    compiled = [(re.compile(rule.source), rule) for rule in rules]
    places: dict[str, list[_Place]] = defaultdict(list)
    strange = []
    for name in names:
        own = _places(name, compiled)
        if all(place.target in wanted for place in own):
            for place in own:
                places[place.target].append(place)
        else:
            strange.append(name)
    return places, strange


def _places(name: str, rules: Sequence[tuple[re.Pattern[str], Rule]]) -> list[_Place]:
    for pattern, rule in rules:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        if rule.target is None:
            return []
        targets = (rule.target,) if isinstance(rule.target, str) else rule.target
        return [
            _Place(found.expand(target), rule.part, name, (index, len(targets)))
            for index, target in enumerate(targets)
        ]
    return [_Place(name, (0, 1), name, (0, 1))]


def _claimed(places: Mapping[str, list[_Place]]) -> dict[str, list[str]]:
    """Return the parameters that get more than one weight, and those that get a part only."""
    twice, partly = [], []
    for name, own in places.items():
        parts = sorted(place.part for place in own)
        if len(set(parts)) < len(parts) or len({count for _, count in parts}) > 1:
            twice.append(f"{name}: {', '.join(place.source for place in own)}")
        elif len(parts) < parts[0][1]:
            partly.append(f"{name}: only {', '.join(place.source for place in own)}")
    return {"given twice": twice, "incomplete": partly}


def _arrived(
    checkpoint: Checkpoint, places: Mapping[str, list[_Place]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and tensor of each parameter once all its parts were read."""
    of_source: dict[str, list[_Place]] = defaultdict(list)
    for own in places.values():
        for place in own:
            of_source[place.source].append(place)
    waiting: dict[str, dict[tuple[int, int], torch.Tensor]] = defaultdict(dict)
    for source in checkpoint:  # a file after the other
        if source not in of_source:
            continue
        tensor = checkpoint[source]
        for place in of_source[source]:
            index, count = place.cut
            parts = waiting[place.target]
            parts[place.part] = tensor.tensor_split(count)[index] if count > 1 else tensor
            if len(parts) == place.part[1]:
                joined = [parts[part] for part in sorted(parts)]
                yield place.target, torch.cat(joined) if len(joined) > 1 else joined[0]
                del waiting[place.target]


def _put(
    module: nn.Module, name: str, tensor: torch.Tensor, dtype: torch.dtype, device: str
) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    placed = tensor.to(device, kind)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(placed, requires_grad=False)
    else:
        owner._buffers[leaf] = placed


def _refuse(checkpoint: Checkpoint, mistakes: Mapping[str, Sequence[str]]) -> None:
    """Raise CheckpointError unless there are none."""
    lines = [
        f"{kind}: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
        for kind, names in mistakes.items()
        if names
    ]
    if lines:
        raise CheckpointError(
            f"{checkpoint.path}: the weights do not fit the model; is this another checkpoint, or "
            f"was it cut?{listed(lines)}"
        )
