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
    Learning: A Survey and Taxonomy", IEEE TPAMI 41(2), 2019, which leaves the classifier open. Own
    code, Apache-2.0.
    """

    name: ClassVar[str] = "concat"
    citation: ClassVar[str] = """
        @article{baltrusaitis2019multimodal,
          author = {Baltru{\\v{s}}aitis, Tadas and Ahuja, Chaitanya and Morency, Louis-Philippe},
          title = {Multimodal Machine Learning: A Survey and Taxonomy},
          journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
          volume = {41},
          number = {2},
          pages = {423--443},
          year = {2019},
          doi = {10.1109/TPAMI.2018.2798607},
        }
    """

    hidden: int = Field(default=128, ge=1, description="Width of the hidden layers.")
    layers: int = Field(default=2, ge=1, description="Hidden layers.")

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._concat import ConcatNetwork

        return ConcatNetwork(self)
