"""Low-rank multimodal fusion in torch; its source is in the docstring of `Lmf`.

======================  ==========================  ==============================================
name                    shape                       holds
======================  ==========================  ==============================================
``encoder.F.L.weight``  ``(hidden, ...)``           layer L = 0, 1, 2 of feature F
``factor.F.weight``     ``(rank * output, hidden)`` the factors w_F,i one below the other
``classify.weight``     ``(classes, output)``       the logits
======================  ==========================  ==============================================

with a ``.bias`` beside each ``.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters
from mercore_fusions._layers import encoded, encoder_parameters
from mercore_fusions.lmf import Lmf


@dataclass(frozen=True)
class LmfNetwork:
    """The network of one choice of options."""

    options: Lmf

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions."""
        options = self.options
        found = encoder_parameters(dims, options.hidden)
        for name in dims:
            products = options.rank * options.output
            found |= linear_parameters(f"factor.{name}", products, options.hidden)
        return found | linear_parameters("classify", classes, options.output)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(m, b, classes)``."""
        factors = [
            # The bias is the column of w_F,i that meets the 1 of [z_F; 1].
            linear(weights, f"factor.{name}", z)  # (m, b, rank * output)
            for name, z in encoded(weights, inputs, drop).items()
        ]
        product = torch.stack(factors).prod(dim=0)  # (m, b, rank * output)
        ranks = product.view(*product.shape[:2], self.options.rank, self.options.output)
        return linear(weights, "classify", drop(ranks.sum(dim=2)))  # (m, b, classes)
