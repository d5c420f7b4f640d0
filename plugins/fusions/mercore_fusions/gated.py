"""Gated multimodal units: a sample decides, number by number, what it takes of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mercore_fusions.masking import MaskingFusion

if TYPE_CHECKING:
    from mercore.nn import Network


class Gated(MaskingFusion):
    """Class probabilities from features that gates let through, number by number.

    Of each feature ``h_F = tanh(W_F x_F)``, ``(samples, hidden)``. Gates look at all features side
    by side, x. Two features share one gate, any other number of them has one each:

        two:    z = sigmoid(V x)          h = z * h_1 + (1 - z) * h_2
        else:   z_F = sigmoid(V_F x)      h = sum over F of z_F * h_F

    so the gates of three or more need not sum to 1: a sample may take much of each, or little.
    Dropout, linear and ReLU to ``(samples, hidden)``, a linear layer and a softmax follow.

    With `mask`, the default here, a feature that a sample lacks is left out of the sum and is 0,
    the mean, to the gates; of two features the other then passes whole.

    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR 2017 workshop,
    arXiv:1702.01992: its unit for any number of features, and the one for two with its equations.
    Own code after the paper, Apache-2.0. Deviations: layers have a bias; one ReLU layer instead of
    maxout in the classifier; missing features.
    """

    name: ClassVar[str] = "gated"
    citation: ClassVar[str] = """
        @article{arevalo2017gated,
          author = {Arevalo, John and Solorio, Thamar and Montes-y-G{\\'o}mez, Manuel and
            Gonz{\\'a}lez, Fabio A.},
          title = {Gated Multimodal Units for Information Fusion},
          journal = {arXiv preprint arXiv:1702.01992},
          year = {2017},
        }
    """

    hidden: int = Field(default=128, ge=1, description="Width of h and of the layer after it.")
    mask: bool = Field(
        default=True,
        description="Train on samples that lack a feature too, and leave it out; else the training "
        "mean stands in its place.",
    )

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._gated import GatedNetwork

        return GatedNetwork(self)
