"""Early fusion in torch; its source is in the docstring of `Concat`.

Its tensors: ``hidden.L`` ``(hidden, ...)`` and ``classify`` ``(classes, hidden)``, each a
``.weight`` with its ``.bias``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters, split_missing
from mercore_fusions._layers import stack, stack_parameters
from mercore_fusions.concat import Concat


@dataclass(frozen=True)
class ConcatNetwork:
    """The network of one choice of options."""

    options: Concat

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions."""
        hidden, layers = self.options.hidden, self.options.layers
        found = stack_parameters("hidden", layers, hidden, sum(dims.values()))
        return found | linear_parameters("classify", classes, hidden)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(m, b, classes)``."""
        x = torch.cat([split_missing(x)[0] for x in inputs.values()], dim=2)  # (m, b, dims)
        x = stack(weights, "hidden", self.options.layers, drop(x))  # (m, b, hidden)
        return linear(weights, "classify", drop(x))  # (m, b, classes)
