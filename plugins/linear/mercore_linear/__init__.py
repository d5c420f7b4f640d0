"""Logistic regression as a fusion: the smallest example of one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from mercore import (
    CheckpointError,
    Features,
    Fusion,
    Labelled,
    Predict,
    Range,
    Space,
    Weights,
    hookimpl,
)
from mercore.citations import SCIKIT_LEARN
from mercore.errors import RunError
from mercore.media import FloatArray

__version__ = "0.1.0"


class Linear(Fusion):
    """Class probabilities from one linear layer over the standardised features, side by side.

    Multinomial logistic regression with an L2 penalty, fitted by the L-BFGS of scikit-learn
    (BSD-3-Clause); `valid` and `seed` change nothing. Predicting takes numpy alone.
    """

    name: ClassVar[str] = "linear"
    citation: ClassVar[str] = SCIKIT_LEARN

    c: float = Field(default=1.0, gt=0, description="Inverse of the L2 penalty.")
    max_iter: int = Field(default=1000, ge=1, description="Most steps of the solver.")
    balanced: bool = Field(default=False, description="Weight classes by inverse frequency.")

    @property
    def space(self) -> Space:
        """The penalty."""
        return {"c": Range(1e-4, 10.0, log=True)}

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return ``coef`` (classes, dims), ``intercept``, ``mean``, ``scale`` and ``dim.F``.

        The features lie side by side in order of their names, ``dim.F`` wide each. A class that
        `train` lacks has the intercept -inf, which makes its probability 0. Raises RunError when
        `train` holds fewer than two classes.
        """
        from sklearn.linear_model import LogisticRegression

        present = np.unique(train.labels)
        if len(present) < 2:
            raise RunError(
                f"fusion 'linear': found classes {present.tolist()!r} among the training samples, "
                "expected two or more; label samples of another class, or use fewer folds"
            )
        table = _side_by_side(train.features).astype(np.float64)
        mean, deviation = table.mean(axis=0), table.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        balance = "balanced" if self.balanced else None
        model = LogisticRegression(C=self.c, max_iter=self.max_iter, class_weight=balance)
        model.fit((table - mean) / scale, train.labels)
        coef, intercept = np.zeros((classes, len(mean))), np.full(classes, -np.inf)
        # Of two classes scikit-learn fits the second alone, against 0 for the first.
        fitted = present[-len(model.coef_) :]
        coef[fitted], intercept[present], intercept[fitted] = model.coef_, 0.0, model.intercept_
        arrays = {"coef": coef, "intercept": intercept, "mean": mean, "scale": scale}
        dims = {f"dim.{name}": np.array(x.shape[1]) for name, x in train.features.items()}
        return dims | {name: array.astype(np.float32) for name, array in arrays.items()}

    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts; it raises CheckpointError for other features."""
        held = {name: array.astype(np.float32) for name, array in weights.items()}
        expected = {k.removeprefix("dim."): int(v) for k, v in held.items() if k[:4] == "dim."}

        def predict(features: Features) -> FloatArray:
            found = {name: x.shape[1] for name, x in features.items()}
            if found != expected:
                raise CheckpointError(
                    f"fusion 'linear': found features of dimensions {found!r}, expected "
                    f"{expected!r}; give those it was trained on, or train the branch again"
                )
            inputs = (_side_by_side(features) - held["mean"]) / held["scale"]
            logits = inputs @ held["coef"].T + held["intercept"]  # (samples, classes)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities: FloatArray = odds / odds.sum(axis=1, keepdims=True)
            return probabilities

        return predict


def _side_by_side(features: Features) -> FloatArray:
    return np.hstack([features[name] for name in sorted(features)])  # (samples, dims)


@hookimpl
def fusions() -> list[type[Fusion]]:
    """Return the fusions this plugin provides."""
    return [Linear]
