"""Tensor fusion: all products of the features, written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mercore.errors import RunError
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

MOST_FEATURES = 4
MOST_VALUES = 2**18  # of one sample's product; the paper has 129 * 33 * 33 = 140,481


class Tfn(Trained):
    """Class probabilities from the outer product of the features.

    Each feature gets an encoder, dropout and three times linear and ReLU, to z_F of ``(samples,
    hidden)``. The outer product of all ``[z_F; 1]`` holds every feature, every product of two, and
    so on: ``(samples, (hidden + 1) ** features)`` values. Dropout, two times linear and ReLU to
    ``(samples, inference)``, a linear layer and a softmax follow.

    It takes up to 4 features, and a product of up to 262,144 values a sample: ``hidden`` up to 511
    for two features, 63 for three, 21 for four. `lmf` has no such limits.

    Source: Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017,
    sections 4.1 (the encoders of pictures and sound), 4.2 (the product) and 4.3 (what follows).
    Written from the paper; Apache-2.0. Deviation: one width for all features, 16 by default, where
    the paper has 128 for its LSTM of words and 32 for the others.
    """

    name: ClassVar[str] = "tfn"

    hidden: int = Field(default=16, ge=1, description="Width of each encoded feature.")
    inference: int = Field(default=128, ge=1, description="Width of the layers after the product.")

    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor: ``encoder.F.L``, ``inference.L``, ``classify``.

        Raises RunError for more features, or a larger product, than it takes.
        """
        self._check(list(dims))
        layers = {"classify": (classes, self.inference)}
        for name, dim in dims.items():
            layers |= stack_layers(f"encoder.{name}", 3, dim, self.hidden)
        values = (self.hidden + 1) ** len(dims)
        return linear_shapes(layers | stack_layers("inference", 2, values, self.inference))

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)``."""
        from torch.nn import functional

        encoded = [
            functional.pad(stack(weights, f"encoder.{name}", drop(x)), (0, 1), value=1.0)
            for name, x in inputs.items()
        ]  # [z; 1] of each feature, (samples, hidden + 1)
        product = encoded[0]
        for z in encoded[1:]:
            product = (product.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
        # product: (samples, (hidden + 1) ** features)
        x = stack(weights, "inference", drop(product))  # (samples, inference)
        return linear(weights, "classify", x)  # (samples, classes)

    def _check(self, features: list[str]) -> None:
        count, values = len(features), (self.hidden + 1) ** len(features)
        if count > MOST_FEATURES:
            raise RunError(
                f"fusion 'tfn': found {count} features, {', '.join(features)}; expected up to "
                f"{MOST_FEATURES}, whose product can be written out; use 'lmf', or fewer features"
            )
        if values > MOST_VALUES:
            raise RunError(
                f"fusion 'tfn': hidden={self.hidden} and {count} features make a product of "
                f"{values:,} values a sample, expected up to {MOST_VALUES:,}; use "
                f"hidden={_widest(count)} or less, or 'lmf'"
            )


def _widest(count: int) -> int:
    """Return the largest `hidden` whose product is small enough for so many features."""
    hidden = int(MOST_VALUES ** (1 / count))
    return hidden if (hidden + 1) ** count <= MOST_VALUES else hidden - 1
