"""Layers that several of the networks are made of.

In the shape comments of the networks m is members, b samples and t frames.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters, split_missing

ENCODER = 3  # layers


def stack_parameters(name: str, layers: int, hidden: int, inputs: int) -> dict[str, Parameter]:
    """Return ``name.L`` of so many layers of `hidden` numbers each."""
    found: dict[str, Parameter] = {}
    for layer in range(layers):
        found |= linear_parameters(f"{name}.{layer}", hidden, hidden if layer else inputs)
    return found


def stack(weights: Tensors, name: str, layers: int, x: Tensor) -> Tensor:
    """Return ``(m, b, hidden)``: linear and ReLU, `layers` times."""
    for layer in range(layers):
        x = linear(weights, f"{name}.{layer}", x).relu()
    return x


def encoder_parameters(dims: Mapping[str, int], hidden: int) -> dict[str, Parameter]:
    """Return ``encoder.F.L``, the layers of an encoder of each feature."""
    found: dict[str, Parameter] = {}
    for name, dim in dims.items():
        found |= stack_parameters(f"encoder.{name}", ENCODER, hidden, dim)
    return found


def encoded(weights: Tensors, inputs: Tensors, drop: Drop) -> dict[str, Tensor]:
    """Return z of each feature, ``(m, b, hidden)``: 0 where a sample lacks it."""
    found = {}
    for name, x in inputs.items():
        known, there = split_missing(x)
        z = stack(weights, f"encoder.{name}", ENCODER, drop(known))
        found[name] = z * there.unsqueeze(-1)
    return found
