"""The multimodal transformer: the frames of each feature attend to those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from mercore_fusions.masking import MaskingFusion

if TYPE_CHECKING:
    from mercore.nn import Network


class Mult(MaskingFusion):
    """Class probabilities from sequences of frames that attend to one another.

    A convolution over time brings the frames of each feature to ``(samples, frames, hidden)``, and
    sinusoidal positions are added. For each ordered pair of features a transformer of `layers`
    layers lets the frames of the first attend to those of the second. All that one feature got from
    the others, side by side, goes through a transformer with self-attention; its last frame is
    taken. Those of all features side by side go through dropout, linear and ReLU, a linear layer
    and a softmax. A feature alone goes through the self-attention straight away.

    It reads sequences, of features with ``frames: true``; they need not be aligned or of one
    length. With `mask` nothing attends to a feature that a sample lacks, and 0 stands for its last
    frame.

    Source: Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL
    2019: its crossmodal attention, temporal convolutions, positional embedding and crossmodal
    transformers. Own code after the equations, Apache-2.0. Deviations: layer normalisation without
    gain and shift, which the linear layers after it have; dropout of frames and of what an
    attention or feed-forward layer adds, not of attention weights; one width and one kernel for all
    features; two layers by default, and widths that a CPU trains.
    """

    name: ClassVar[str] = "mult"
    citation: ClassVar[str] = """
        @inproceedings{tsai2019multimodal,
          author = {Tsai, Yao-Hung Hubert and Bai, Shaojie and Liang, Paul Pu and Kolter, J. Zico
            and Morency, Louis-Philippe and Salakhutdinov, Ruslan},
          title = {Multimodal Transformer for Unaligned Multimodal Language Sequences},
          booktitle = {Proceedings of the 57th Annual Meeting of the Association for Computational
            Linguistics},
          pages = {6558--6569},
          year = {2019},
          doi = {10.18653/v1/P19-1656},
        }
    """

    frames: int = Field(
        default=50, ge=1, description="Read sequences, shortened to so many frames."
    )
    hidden: int = Field(default=32, ge=1, description="Width of a frame; a multiple of `heads`.")
    heads: int = Field(default=4, ge=1, description="Heads of each attention.")
    layers: int = Field(default=2, ge=1, description="Layers of each transformer.")
    kernel: int = Field(
        default=1, ge=1, description="Neighbouring frames a convolution looks at; an odd number."
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of a layer's inputs set to 0 in training."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        mistakes = []
        if self.hidden % self.heads:
            mistakes.append(f"hidden={self.hidden} is no multiple of heads={self.heads}")
        if self.kernel % 2 == 0:
            mistakes.append(f"kernel={self.kernel}: expected an odd number, such as 1 or 3")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def most_frames(self) -> int | None:
        """The option `frames`."""
        return self.frames

    def network(self) -> Network:
        """Return the network."""
        from mercore_fusions._mult import MultNetwork

        return MultNetwork(self)
