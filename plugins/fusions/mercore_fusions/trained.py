"""What the networks share: the options of their training, and how they are fitted and loaded.

A network is two functions of its options: ``shapes`` names its tensors, ``logits`` computes with
them. Each ``X.weight`` is ``(outputs, inputs)`` with its ``X.bias`` beside it, so one rule draws
the first state of all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mercore import Fusion, Labelled, Predict, Weights

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
Drop = Callable[["Tensor"], "Tensor"]
Shapes = dict[str, tuple[int, ...]]


class Trained(Fusion):
    """A network trained by Adam on cross-entropy; the epoch with the best validation WAF is kept.

    Predictions look features up by name. The same data and seed give the same weights, bit for
    bit, on one machine with one number of threads.
    """

    hidden: int = Field(default=128, ge=1, description="Width of the hidden layers.")
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="Share of a layer's inputs set to 0 in training."
    )
    lr: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    epochs: int = Field(default=100, ge=1, description="Passes over the training samples.")
    batch: int = Field(default=32, ge=1, description="Samples a step.")
    weight_decay: float = Field(
        default=1e-5, ge=0, description="L2 penalty, added to the gradient as in Adam."
    )
    standardise: bool = Field(
        default=True,
        description="Shift and scale each dimension to mean 0, deviation 1 over the training "
        "samples, so that no encoder drowns the others by its scale.",
    )
    class_weights: Literal["balanced", "none"] = Field(
        default="none", description="Weight classes in the loss by their inverse frequency."
    )
    sampling: Literal["balanced", "none"] = Field(
        default="none",
        description="Draw as many samples of each class an epoch, with replacement.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better validation WAF.",
    )

    @property
    def frames(self) -> int | None:
        """The most frames a sample that the fusion reads; None for one row a sample."""
        return None

    @property
    def masked(self) -> bool:
        """Whether the features that a sample lacks are given as NaN."""
        return False

    @abstractmethod
    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor, for features of `dims` dimensions."""

    @abstractmethod
    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)`` float32; `inputs` are in the order of the fit.

        An input is standardised: ``(samples, dim)``, or ``(samples, frames, dim)`` where the
        fusion reads frames, with NaN for what a sample lacks.
        """

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return the weights of the epoch with the best WAF on `valid`; ties go to the lower loss.

        The last epoch counts where `valid` is empty. The weights hold the standardisation too.
        Raises RunError when there is nothing to train on or the loss is no longer finite.
        """
        from mercore_fusions import _training

        return _training.fit(self, train, valid, classes=classes, device=device, seed=seed)

    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts; both raise CheckpointError for what does not fit."""
        from mercore_fusions import _model

        return _model.load(self, weights, device)


def linear_shapes(layers: Mapping[str, tuple[int, int]]) -> Shapes:
    """Return the shapes of linear layers from their ``(outputs, inputs)``."""
    matrices: Shapes = {f"{name}.weight": shape for name, shape in layers.items()}
    return matrices | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def linear(weights: Tensors, name: str, x: Tensor) -> Tensor:
    """Return the linear layer `name` of ``(..., inputs)``."""
    from torch.nn import functional

    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def stack_layers(prefix: str, count: int, inputs: int, hidden: int) -> dict[str, tuple[int, int]]:
    """Return ``(outputs, inputs)`` of the layers of a ``stack``."""
    return {f"{prefix}.{layer}": (hidden, hidden if layer else inputs) for layer in range(count)}


def stack(weights: Tensors, prefix: str, x: Tensor) -> Tensor:
    """Return ``(samples, hidden)``: linear and ReLU, as often as there are layers of `prefix`."""
    layer = 0
    while f"{prefix}.{layer}.weight" in weights:
        x = linear(weights, f"{prefix}.{layer}", x).relu()
        layer += 1
    return x
