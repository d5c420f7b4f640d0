"""Early fusion: a multilayer perceptron on the features side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

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


class Concat(Trained):
    """Class probabilities from a perceptron on the features side by side.

    Dropout, then `layers` times linear and ReLU to ``(samples, hidden)``, dropout, a linear layer
    and a softmax. The baseline that any other fusion has to beat.

    Source: feature-level or early fusion, Baltrusaitis, Ahuja and Morency, "Multimodal Machine
    Learning: A Survey and Taxonomy", IEEE TPAMI 41(2), 2019, section 6.1, which leaves the
    classifier open. Written from that description; Apache-2.0.
    """

    name: ClassVar[str] = "concat"

    layers: int = Field(default=2, ge=1, description="Hidden layers.")

    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor: ``hidden.L``, ``classify``."""
        layers = stack_layers("hidden", self.layers, sum(dims.values()), self.hidden)
        return linear_shapes(layers | {"classify": (classes, self.hidden)})

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)``."""
        import torch

        x = torch.cat(list(inputs.values()), dim=1)  # (samples, dims)
        x = stack(weights, "hidden", drop(x))  # (samples, hidden)
        return linear(weights, "classify", drop(x))  # (samples, classes)
