"""Gated multimodal units: each sample decides, number by number, what it takes of each feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mercore_fusions.trained import (
    Drop,
    Shapes,
    Tensors,
    Trained,
    linear,
    linear_shapes,
    stack,
    stack_layers,
)

if TYPE_CHECKING:
    from torch import Tensor


class Gated(Trained):
    """Class probabilities from features that gates let through, number by number.

    Of each feature ``h_F = tanh(W_F x_F)``, ``(samples, hidden)``. Gates look at all features side
    by side, x. Two features share one gate, any other number of them has one each::

        two:    z = sigmoid(V x)          h = z * h_1 + (1 - z) * h_2
        else:   z_F = sigmoid(V_F x)      h = sum over F of z_F * h_F

    so the gates of three or more need not sum to 1: a sample may take much of each, or little.
    Dropout, linear and ReLU to ``(samples, hidden)``, a linear layer and a softmax follow.

    A feature that a sample lacks is left out of its sum and is 0, the mean, to the gates; of two
    features the other then passes whole. Such samples are trained on too. With `missing` ``mean``
    they are treated as by the other fusions.

    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR 2017 workshop,
    arXiv:1702.01992, section 3.1: figure 2a (any number) and figure 2b with its equations (two).
    Written from the paper; Apache-2.0. Deviations: layers have a bias; ReLU instead of maxout in
    the classifier; missing features.
    """

    name: ClassVar[str] = "gated"

    missing: Literal["leave_out", "mean"] = Field(
        default="leave_out",
        description="What becomes of a feature that a sample lacks: left out of that sample's sum, "
        "or the training mean in its place, and no training on such samples.",
    )

    @property
    def masked(self) -> bool:
        """Whether the features that a sample lacks are given as NaN."""
        return self.missing == "leave_out"

    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor: ``encode.F``, ``gate.F``, ``hidden.0``, ...

        Of two features the first alone has a ``gate.F``.
        """
        layers = stack_layers("hidden", 1, self.hidden, self.hidden)
        layers["classify"] = (classes, self.hidden)
        for place, (name, dim) in enumerate(dims.items()):
            layers[f"encode.{name}"] = (self.hidden, dim)
            if len(dims) != 2 or place == 0:
                layers[f"gate.{name}"] = (self.hidden, sum(dims.values()))
        return linear_shapes(layers)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)``."""
        import torch

        there = [~x[:, :1].isnan() for x in inputs.values()]  # (samples, 1) each
        known = {
            name: drop(x.where(here, 0.0))
            for (name, x), here in zip(inputs.items(), there, strict=True)
        }
        encoded = [linear(weights, f"encode.{name}", x).tanh() for name, x in known.items()]
        beside = torch.cat(list(known.values()), dim=1)  # (samples, dims)
        gates = _gates(weights, list(inputs), beside, there)  # (samples, hidden) each
        h = torch.stack([z * x for z, x in zip(gates, encoded, strict=True)]).sum(dim=0)
        x = stack(weights, "hidden", drop(h))  # (samples, hidden)
        return linear(weights, "classify", x)  # (samples, classes)


def _gates(weights: Tensors, names: list[str], x: Tensor, there: list[Tensor]) -> list[Tensor]:
    """Return what passes of each feature, ``(samples, hidden)`` in [0, 1]; 0 where it lacks."""
    if len(names) != 2:
        return [
            linear(weights, f"gate.{name}", x).sigmoid() * here
            for name, here in zip(names, there, strict=True)
        ]
    first, second = there
    z = linear(weights, f"gate.{names[0]}", x).sigmoid()
    return [z.where(second, 1.0) * first, (1 - z).where(first, 1.0) * second]
