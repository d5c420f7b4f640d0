"""Tensor fusion: all products of the features, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mercore_fusions.masking import MaskingFusion

if TYPE_CHECKING:
    from mercore.nn import Network


class Tfn(MaskingFusion):
    """Class probabilities from the outer product of the features.

    Each feature gets an encoder, dropout and three times linear and ReLU, to z_F of ``(samples,
    hidden)``. The outer product of all ``[z_F; 1]`` holds every feature, every product of two, and
    so on: ``(samples, (hidden + 1) ** features)`` values. Dropout, two times linear and ReLU to
    ``(samples, inference)``, a linear layer and a softmax follow. With `mask` z_F is 0 where a
    sample lacks the feature, which leaves the products of the others.

    It takes up to 4 features, and a product of up to 262,144 values a sample: `hidden` up to 511
    for two features, 63 for three, 21 for four. `lmf` has no such limits.

    Source: Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017: its
    modality embedding subnetworks of pictures and sound, its tensor fusion layer (the product) and
    its sentiment inference subnetwork (what follows). Own code after the paper, Apache-2.0.
    Deviation: one width for all features, 16 by default; the paper has 128 for its LSTM of words
    and 32 for the others.
    """

    name: ClassVar[str] = "tfn"
    citation: ClassVar[str] = """
        @inproceedings{zadeh2017tensor,
          author = {Zadeh, Amir and Chen, Minghai and Poria, Soujanya and Cambria, Erik and Morency,
            Louis-Philippe},
          title = {Tensor Fusion Network for Multimodal Sentiment Analysis},
          booktitle = {Proceedings of the 2017 Conference on Empirical Methods in Natural Language
            Processing},
          pages = {1103--1114},
          year = {2017},
          doi = {10.18653/v1/D17-1115},
        }
    """

    hidden: int = Field(default=16, ge=1, description="Width of each encoded feature.")
    inference: int = Field(default=128, ge=1, description="Width of the layers after the product.")

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._tfn import TfnNetwork

        return TfnNetwork(self)
