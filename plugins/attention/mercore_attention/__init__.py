"""The cross-modal attention fusion of Ge et al. (2024), for mercore."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mercore import Fusion, Labelled, Predict, Weights, hookimpl

__version__ = "0.1.0"


class Attention(Fusion):
    """Class probabilities from features weighted sample by sample.

    Each feature ``(samples, dim)`` gets an encoder: dropout, then three times linear and ReLU, to
    ``(samples, hidden)``. The encoded features side by side, ``(samples, features * hidden)``, go
    through an encoder of the same kind and a linear layer to one weight a feature. The weighted
    sum of the encoded features goes through a linear layer and a softmax.

    Source: Ge et al., "Early Joint Learning of Emotion Information Makes MultiModal Model
    Understand You Better", MRAC '24, section 2.1, equations (1) to (6); the layers, which the
    paper leaves out, as in the attention baseline of Lian et al., "MERBench" (2024),
    arXiv:2401.03429. Written from those descriptions; Apache-2.0.

    Deviations from that baseline: `normalise` (it sums with the raw weights), `standardise` (it
    takes features as they come), and one random stream per fit, so that a fit can be repeated.

    The order of the features given to ``fit`` is the order of the layers; predictions look
    features up by name.
    """

    name: ClassVar[str] = "attention"

    hidden: int = Field(default=128, ge=1, description="Width of every encoder.")
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="Share of an encoder's inputs set to 0 in training."
    )
    lr: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    epochs: int = Field(default=100, ge=1, description="Passes over the training samples.")
    batch: int = Field(default=32, ge=1, description="Samples a step.")
    weight_decay: float = Field(
        default=1e-5, ge=0, description="L2 penalty, added to the gradient as in Adam."
    )
    normalise: Literal["softmax", "none"] = Field(
        default="softmax",
        description="How a sample's feature weights are normalised; MERBench does not.",
    )
    standardise: bool = Field(
        default=True,
        description="Shift and scale each dimension to mean 0, deviation 1 over the training "
        "samples, so that no encoder drowns the others by its scale; MERBench does not.",
    )
    class_weights: Literal["balanced", "none"] = Field(
        default="none", description="Weight classes in the loss by their inverse frequency."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better validation WAF.",
    )

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return the weights of the epoch with the best WAF on `valid`; ties go to the lower loss.

        The last epoch counts where `valid` is empty. The weights hold the standardisation too.
        Neither the global random state nor the thread settings of torch are touched. Raises
        RunError when there is nothing to train on or the loss is no longer finite.
        """
        from mercore_attention import _training

        return _training.fit(self, train, valid, classes=classes, device=device, seed=seed)

    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts; both raise CheckpointError for what does not fit."""
        from mercore_attention import _model

        return _model.load(self, weights, device)


@hookimpl
def fusions() -> list[type[Fusion]]:
    """Return the fusions this plugin provides."""
    return [Attention]
