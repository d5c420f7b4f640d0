"""Fusions that are networks in torch: their options, and how they are fitted and loaded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from mercore.components import Fusion, Labelled, Part, Predict, Range, Space, Weights

if TYPE_CHECKING:
    from mercore.nn import Network


class NetworkFusion(Fusion):
    """A fusion that is a network, trained by Adam on batches; a subclass says which network.

    Cross-entropy; the state of the epoch with the best WAF on the validation samples is kept, the
    lower loss decides between equal ones. Neither the global random state nor the thread settings
    of torch are touched. Adam: Kingma and Ba, ICLR 2015, arXiv:1412.6980.
    """

    resumes: ClassVar[bool] = True

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
        description="Draw as many samples of each class in an epoch, with replacement.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better validation WAF.",
    )

    @property
    def space(self) -> Space:
        """The ranges of Lian et al., "MERBench" (2024), arXiv:2401.03429."""
        return {"lr": Range(1e-4, 1e-3, log=True), "dropout": Range(0.2, 0.5)}

    @abstractmethod
    def network(self) -> Network:
        """Return the network; import torch here, not with the module."""

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return the weights of the epoch with the best WAF on `valid`; ties go to the lower loss.

        The last epoch counts where `valid` is empty. The weights hold the standardisation too.
        Raises RunError when there is nothing to train on or the loss is no longer finite.
        """
        features = {
            name: np.concatenate([train.features[name], valid.features[name]])
            for name in train.features
        }
        data = Labelled(features, np.concatenate([train.labels, valid.labels]))
        rows = np.arange(len(data.labels))
        part = Part(rows[: len(train.labels)], rows[len(train.labels) :], seed)
        return self.fit_all(data, [part], classes=classes, device=device)[0]

    def fit_all(
        self, data: Labelled, parts: Sequence[Part], *, classes: int, device: str
    ) -> list[Weights]:
        """Return the weights of each part; several are trained at once, the features shared."""
        from mercore.nn import fit_network

        return fit_network(self, data, parts, classes=classes, device=device)

    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts; both raise CheckpointError for what does not fit."""
        from mercore.nn import load_network

        return load_network(self, weights, device)
