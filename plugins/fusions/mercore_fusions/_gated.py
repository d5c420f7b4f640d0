"""Gated multimodal units in torch; their source is in the docstring of `Gated`.

======================  ======================  =================================================
name                    shape                   holds
======================  ======================  =================================================
``encode.F.weight``     ``(hidden, dim)``       W of feature F
``gate.F.weight``       ``(hidden, dims)``      V, over all features; of two, the first's alone
``hidden.0.weight``     ``(hidden, hidden)``    the layer after h
``classify.weight``     ``(classes, hidden)``   the logits
======================  ======================  =================================================

with a ``.bias`` beside each ``.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters, split_missing
from mercore_fusions._layers import stack, stack_parameters
from mercore_fusions.gated import Gated


@dataclass(frozen=True)
class GatedNetwork:
    """The network of one choice of options."""

    options: Gated

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions."""
        hidden = self.options.hidden
        found = stack_parameters("hidden", 1, hidden, hidden)
        found |= linear_parameters("classify", classes, hidden)
        for name, dim in dims.items():
            found |= linear_parameters(f"encode.{name}", hidden, dim)
        for name in _gated(list(dims)):
            found |= linear_parameters(f"gate.{name}", hidden, sum(dims.values()))
        return found

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(m, b, classes)``."""
        known, there = {}, {}
        for name, x in inputs.items():
            x, here = split_missing(x)
            known[name], there[name] = drop(x), here.unsqueeze(-1)  # (m, b, dim), (m, b, 1)
        beside = torch.cat(list(known.values()), dim=2)  # (m, b, dims)
        passed = _passed(weights, beside, there)  # (m, b, hidden) each
        terms = [
            z * linear(weights, f"encode.{name}", known[name]).tanh() for name, z in passed.items()
        ]
        x = stack(weights, "hidden", 1, drop(torch.stack(terms).sum(dim=0)))  # (m, b, hidden)
        return linear(weights, "classify", x)  # (m, b, classes)


def _gated(names: Sequence[str]) -> Sequence[str]:
    """Return the features with a gate of their own."""
    return names[:1] if len(names) == 2 else names


def _passed(weights: Tensors, x: Tensor, there: Tensors) -> dict[str, Tensor]:
    """Return what passes of each feature, ``(m, b, hidden)`` in [0, 1]; 0 where it lacks."""
    gates = {name: linear(weights, f"gate.{name}", x).sigmoid() for name in _gated(list(there))}
    if len(there) != 2:
        return {name: gate * there[name] for name, gate in gates.items()}
    one, other = there
    gate = gates[one]
    return {
        one: gate.where(there[other], 1.0) * there[one],
        other: (1 - gate).where(there[one], 1.0) * there[other],
    }
