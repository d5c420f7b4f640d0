"""Low-rank multimodal fusion: all products of the features, through a tensor of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mercore_fusions.masking import MaskingFusion

if TYPE_CHECKING:
    from mercore.nn import Network


class Lmf(MaskingFusion):
    """Class probabilities from products of the features, by a weight tensor of low rank.

    Each feature gets an encoder, dropout and three times linear and ReLU, to z_F of ``(samples,
    hidden)``. A weight tensor over the outer product of all ``[z_F; 1]``, as `tfn` has one, is the
    sum of `rank` products of one factor a feature, so that neither is ever written out:

        h = sum over i of  product over F of  w_F,i [z_F; 1]      (samples, output)

    Dropout, a linear layer and a softmax follow. Time and memory grow linearly with the number of
    features. With `mask` z_F is 0 where a sample lacks the feature, which leaves the products of
    the others.

    Source: Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL
    2018, section 3, h by equation (8). Own code after its equations, Apache-2.0. Deviations: the
    encoders are those of the fusion `attention`, for the paper's are made for its features; h has
    no bias of its own.
    """

    name: ClassVar[str] = "lmf"
    citation: ClassVar[str] = """
        @inproceedings{liu2018efficient,
          author = {Liu, Zhun and Shen, Ying and Lakshminarasimhan, Varun Bharadhwaj and Liang, Paul
            Pu and Zadeh, AmirAli Bagher and Morency, Louis-Philippe},
          title = {Efficient Low-rank Multimodal Fusion with Modality-Specific Factors},
          booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational
            Linguistics},
          pages = {2247--2256},
          year = {2018},
          doi = {10.18653/v1/P18-1209},
        }
    """

    hidden: int = Field(default=128, ge=1, description="Width of each encoded feature.")
    rank: int = Field(default=4, ge=1, description="Products that the weight tensor is the sum of.")
    output: int = Field(default=64, ge=1, description="Width of the fused representation h.")

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._lmf import LmfNetwork

        return LmfNetwork(self)
