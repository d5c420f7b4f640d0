"""Low-rank multimodal fusion: all products of the features, through a tensor of low rank."""

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


class Lmf(Trained):
    """Class probabilities from products of the features, by a weight tensor of low rank.

    Each feature gets an encoder, dropout and three times linear and ReLU, to z_F of ``(samples,
    hidden)``. A weight tensor over the outer product of all ``[z_F; 1]``, as `tfn` has one, is the
    sum of `rank` products of one factor a feature, so neither is ever written out::

        h = sum over i of  product over F of  w_F,i [z_F; 1]      (samples, output)

    and a linear layer and a softmax follow. Time and memory grow linearly with the features.

    Source: Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL
    2018, section 3, equations (1) to (6). Written from the equations; Apache-2.0.

    Choices: the encoders are those of `attention` (the paper's are of its data sets), the bias of
    equation (2) is that of the linear layer.
    """

    name: ClassVar[str] = "lmf"

    rank: int = Field(default=4, ge=1, description="Products that the weight tensor is the sum of.")
    output: int = Field(default=64, ge=1, description="Width of the fused representation h.")

    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor: ``encoder.F.L``, ``factor.F``, ``classify``."""
        layers = {"classify": (classes, self.output)}
        for name, dim in dims.items():
            layers |= stack_layers(f"encoder.{name}", 3, dim, self.hidden)
            layers[f"factor.{name}"] = (self.rank * self.output, self.hidden)
        return linear_shapes(layers)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)``."""
        import torch

        factors = []
        for name, x in inputs.items():
            z = stack(weights, f"encoder.{name}", drop(x))  # (samples, hidden)
            # The bias is the column of w_F,i that meets the 1 of [z_F; 1].
            factor = linear(weights, f"factor.{name}", z)  # (samples, rank * output)
            factors.append(factor.view(-1, self.rank, self.output))
        product = torch.stack(factors).prod(dim=0)  # (samples, rank, output)
        h = product.sum(dim=1)  # (samples, output)
        return linear(weights, "classify", drop(h))  # (samples, classes)
