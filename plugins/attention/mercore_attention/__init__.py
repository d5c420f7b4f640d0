"""The cross-modal attention fusion of Ge et al. (2024), for mercore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mercore import Fusion, NetworkFusion, Space, hookimpl
from mercore.citations import MERBENCH, REFERENCE

if TYPE_CHECKING:
    from mercore.nn import Network

__version__ = "0.1.0"

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "mertools": {"normalise": "none", "standardise": False},
}
"""The options that a preset gives where they are left out."""


class Attention(NetworkFusion):
    """Class probabilities from features weighted sample by sample.

    Each feature ``(samples, dim)`` gets an encoder: dropout, then three times linear and ReLU, to
    ``(samples, hidden)``. The encoded features side by side, ``(samples, features * hidden)``, go
    through an encoder of the same kind and a linear layer to one weight a feature. The weighted
    sum of the encoded features goes through a linear layer and a softmax.

    With `frames` it reads sequences: the encoder of a feature is then an LSTM, of whose last state
    dropout and a linear layer make ``(samples, hidden)``; with ``over: mean`` it is that of the
    mean over the frames that it reads.

    Source: Ge et al., "Early Joint Learning of Emotion Information Makes MultiModal Model
    Understand You Better", MRAC '24, section 2.1, equations (1) to (6); the layers, which the
    paper leaves out, as in the attention baseline of Lian et al., "MERBench" (2024),
    arXiv:2401.03429. Written from those descriptions; Apache-2.0.

    Deviations from that baseline: `normalise` (it sums with the raw weights) and `standardise` (it
    takes features as they come), both undone by ``preset: mertools``; and one random stream per
    fit, so that a fit can be repeated.

    The order of the features given to ``fit`` is the order of the layers; predictions look
    features up by name.
    """

    name: ClassVar[str] = "attention"
    revision: ClassVar[int] = 2
    citation: ClassVar[str] = REFERENCE + MERBENCH

    preset: Literal["paper", "mertools"] = Field(
        default="paper",
        description="Whose reading is the default of the options left out: mertools sets "
        "normalise to none and standardise to false.",
    )
    hidden: int = Field(default=128, ge=1, description="Width of every encoder.")
    normalise: Literal["softmax", "none"] = Field(
        default="softmax",
        description="How a sample's feature weights are normalised; MERBench does not.",
    )
    mask: bool = Field(
        default=False,
        description="Train on samples that lack a feature too, and give it no weight; else the "
        "training mean stands in its place.",
    )
    frames: int | None = Field(
        default=None,
        ge=1,
        description="Read sequences, shortened to so many frames; else vectors over all frames.",
    )
    over: Literal["lstm", "mean"] = Field(
        default="lstm", description="What makes one vector of a sequence."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        return {**PRESETS.get(str(given.get("preset")), {}), **given}

    @property
    def most_frames(self) -> int | None:
        """The option `frames`."""
        return self.frames

    @property
    def masks_missing(self) -> bool:
        """The option `mask`."""
        return self.mask

    @property
    def space(self) -> Space:
        """Those of every network, and the width."""
        return {**super().space, "hidden": (64, 128, 256)}

    def network(self) -> Network:
        """Return the network."""
        from mercore_attention._model import AttentionNetwork

        return AttentionNetwork(self)


@hookimpl
def fusions() -> list[type[Fusion]]:
    """Return the fusions this plugin provides."""
    return [Attention]
