"""Tensor fusion in torch; its source is in the docstring of `Tfn`.

========================  =============================  =====================================
name                      shape                          holds
========================  =============================  =====================================
``encoder.F.L.weight``    ``(hidden, ...)``              layer L = 0, 1, 2 of feature F
``inference.0.weight``    ``(inference, (hidden + 1)     from the product, in which the last
                          ** features)``                 feature varies fastest
``inference.1.weight``    ``(inference, inference)``     the layer after it
``classify.weight``       ``(classes, inference)``       the logits
========================  =============================  =====================================

with a ``.bias`` beside each ``.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from mercore.errors import RunError
from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters
from mercore_fusions._layers import encoded, encoder_parameters, stack, stack_parameters
from mercore_fusions.tfn import Tfn

INFERENCE = 2  # layers
MOST_FEATURES = 4
MOST_VALUES = 2**18  # of one sample's product; the paper has 129 * 33 * 33 = 140,481


@dataclass(frozen=True)
class TfnNetwork:
    """The network of one choice of options."""

    options: Tfn

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions.

        Raises RunError for more features, or a larger product, than can be written out.
        """
        hidden, inference = self.options.hidden, self.options.inference
        _check(list(dims), hidden)
        found = encoder_parameters(dims, hidden)
        found |= stack_parameters("inference", INFERENCE, inference, (hidden + 1) ** len(dims))
        return found | linear_parameters("classify", classes, inference)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(m, b, classes)``."""
        first, *others = (
            functional.pad(z, (0, 1), value=1.0)  # [z_F; 1], (m, b, hidden + 1)
            for z in encoded(weights, inputs, drop).values()
        )
        product = first
        for z in others:
            product = (product.unsqueeze(3) * z.unsqueeze(2)).flatten(2)
        # product: (m, b, (hidden + 1) ** features)
        x = stack(weights, "inference", INFERENCE, drop(product))  # (m, b, inference)
        return linear(weights, "classify", x)  # (m, b, classes)


def _check(features: Sequence[str], hidden: int) -> None:
    count, values = len(features), (hidden + 1) ** len(features)
    if count > MOST_FEATURES:
        raise RunError(
            f"fusion 'tfn': found {count} features, {', '.join(features)}; expected up to "
            f"{MOST_FEATURES}, whose product can be written out; use 'lmf', or fewer features"
        )
    if values > MOST_VALUES:
        raise RunError(
            f"fusion 'tfn': hidden={hidden} and {count} features make a product of {values:,} "
            f"values a sample, expected up to {MOST_VALUES:,}; use hidden={_widest(count)} or "
            "less, or 'lmf'"
        )


def _widest(count: int) -> int:
    """Return the largest `hidden` whose product of so many features is small enough."""
    side: int = round(MOST_VALUES ** (1 / count))
    return side - 1 if side**count <= MOST_VALUES else side - 2
