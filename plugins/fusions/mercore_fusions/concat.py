"""Early fusion: a perceptron on the features side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mercore_fusions.masking import MaskingFusion

if TYPE_CHECKING:
    from mercore.nn import Network


class Concat(MaskingFusion):
    """Class probabilities from a perceptron on the features side by side.

    Dropout, then `layers` times linear and ReLU to ``(samples, hidden)``, dropout, a linear layer
    and a softmax: the baseline that any other fusion has to beat. With `mask` a feature that a
    sample lacks is 0 in every dimension.

    Source: early (feature-based) fusion in Baltrusaitis, Ahuja and Morency, "Multimodal Machine
    Learning: A Survey and Taxonomy", IEEE TPAMI 41(2), 2019, section 6.1, which leaves the
    classifier open. Own code, Apache-2.0.
    """

    name: ClassVar[str] = "concat"

    hidden: int = Field(default=128, ge=1, description="Width of the hidden layers.")
    layers: int = Field(default=2, ge=1, description="Hidden layers.")

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._concat import ConcatNetwork

        return ConcatNetwork(self)
