"""What a network is to the training: named tensors, and a function of them.

Several networks of one kind are trained at once, one for each fold. So every tensor that a network
sees has a leading dimension of members: a batch of one feature is ``(members, samples, dim)``, a
weight ``(members, outputs, inputs)``. Members never mix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Drop = Callable[[Tensor], Tensor]
"""Dropout of any tensor with a leading dimension of members; does nothing in a prediction."""


@dataclass(frozen=True)
class Parameter:
    """A trained tensor: its shape without members, and the uniform range it starts in."""

    shape: tuple[int, ...]
    bound: float
    """Half of the width of that range."""
    centre: float = 0.0


class Network(Protocol):
    """A network as a function of named tensors."""

    def parameters(self, dims: Mapping[str, int], classes: int) -> Mapping[str, Parameter]:
        """Return every trained tensor; `dims` is by feature, in the order of the fit."""

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(members, samples, classes)``.

        `inputs` are ``(members, samples, dim)`` by feature, or ``(members, samples, frames, dim)``,
        in the order of the fit; NaN as ``Fusion.most_frames`` and ``Fusion.masks_missing`` say.
        """


def linear_parameters(name: str, outputs: int, inputs: int) -> dict[str, Parameter]:
    """Return ``name.weight`` and ``name.bias``, which start within 1 / sqrt(inputs) as in torch."""
    bound = inputs**-0.5
    return {
        f"{name}.weight": Parameter((outputs, inputs), bound),
        f"{name}.bias": Parameter((outputs,), bound),
    }


def linear(weights: Tensors, name: str, x: Tensor) -> Tensor:
    """Return the layer `name` of ``(members, ..., inputs)``: ``(members, ..., outputs)``."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    columns = x.flatten(1, -2).transpose(1, 2)  # (members, inputs, rows)
    # In this order of the factors the gradient of the weight comes out as the weight lies.
    found = torch.baddbmm(bias.unsqueeze(2), weight, columns).transpose(1, 2)
    return found.reshape(*x.shape[:-1], weight.shape[1])


def split_missing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x` with 0 for NaN, and what is there: bool of the shape of `x` without its last."""
    there = ~x[..., 0].isnan()
    return torch.where(there.unsqueeze(-1), x, 0.0), there
