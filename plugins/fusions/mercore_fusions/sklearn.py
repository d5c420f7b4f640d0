"""Classifiers of scikit-learn as a fusion, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from mercore import CheckpointError, Features, Fusion, Labelled, Predict, Weights
from mercore.citations import SCIKIT_LEARN
from mercore.components import IntArray
from mercore.errors import RunError
from mercore.media import FloatArray

OWN: Mapping[str, tuple[str, ...]] = {
    "c": ("svm",),
    "kernel": ("svm",),
    "trees": ("random_forest",),
    "depth": ("random_forest",),
    "neighbours": ("knn",),
    "class_weights": ("svm", "random_forest", "lda"),
}
"""The estimators that an option is for."""

CHUNK = 256  # samples predicted at a time: bounds the memory of distances to training samples


class Sklearn(Fusion):
    """Class probabilities from a classifier of scikit-learn on the features side by side.

    Each dimension is brought to mean 0 and deviation 1 over the training samples. `estimator` is

    - ``svm``: a support vector machine, with probabilities from a sigmoid a class that is fitted on
      scores of 5-fold cross-validation (`CalibratedClassifierCV`; libsvm's own are deprecated);
    - ``random_forest``: the mean of the shares of the classes in the leaves of random trees;
    - ``lda``: linear discriminant analysis, with the shrinkage of Ledoit and Wolf;
    - ``knn``: the shares of the classes among the nearest training samples, by Euclidean distance.

    They are those whose fitted state is a few arrays: weights are never pickled, and predicting
    takes numpy alone and gives what scikit-learn's ``predict_proba`` does. Logistic regression is
    the fusion `linear`, a perceptron is `concat`. `valid` changes nothing.

    Source: scikit-learn, Pedregosa et al., JMLR 12, 2011 (BSD-3-Clause), which fits them.
    """

    name: ClassVar[str] = "sklearn"
    citation: ClassVar[str] = SCIKIT_LEARN

    estimator: Literal["svm", "random_forest", "lda", "knn"] = Field(
        default="svm", description="The classifier."
    )
    c: float = Field(default=1.0, gt=0, description="svm: inverse of the penalty.")
    kernel: Literal["rbf", "linear"] = Field(
        default="rbf", description="svm: Gaussian of width 1 / (dimensions * variance), or linear."
    )
    trees: int = Field(default=300, ge=1, description="random_forest: how many trees.")
    depth: int | None = Field(
        default=None, ge=1, description="random_forest: most questions a tree asks of a sample."
    )
    neighbours: int = Field(default=15, ge=1, description="knn: how many training samples vote.")
    class_weights: Literal["balanced", "none"] = Field(
        default="none",
        description="svm, random_forest: weight classes by their inverse frequency; lda: take all "
        "classes as equally frequent.",
    )

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        """Refuse options that would be without effect."""
        mistakes = [
            f"{option} is an option of {' and '.join(owners)}, not of {self.estimator}"
            for option, owners in OWN.items()
            if self.estimator not in owners
            and getattr(self, option) != type(self).model_fields[option].default
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return ``mean``, ``scale``, ``present``, ``classes``, ``dim.F`` and the estimator's own.

        The features lie side by side in order of their names, ``dim.F`` wide each. ``present`` are
        the classes that `train` holds; the others have probability 0. Raises RunError when there
        are fewer than two, or, for ``svm``, fewer than two samples of one.
        """
        from mercore_fusions import _estimators

        present, labels = np.unique(train.labels, return_inverse=True)
        self._check(present, np.bincount(labels, minlength=1))
        table = _side_by_side(train.features)
        mean, deviation = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
        standard = {"mean": mean, "scale": np.where(deviation > 0, deviation, 1.0)}
        arrays = {name: x.astype(np.float32) for name, x in standard.items()}
        inputs = _standardised(table, arrays)
        return {
            **arrays,
            "present": present.astype(np.int64),
            "classes": np.array(classes, np.int64),
            **{f"dim.{name}": np.array(x.shape[1]) for name, x in train.features.items()},
            **_estimators.fit(self, inputs, labels, seed),
        }

    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts; both raise CheckpointError for what does not fit."""
        from mercore_fusions import _estimators

        expected = {k.removeprefix("dim."): int(v) for k, v in weights.items() if k[:4] == "dim."}
        probabilities = _estimators.load(self, weights)

        def predict(features: Features) -> FloatArray:
            found = {name: x.shape[1] for name, x in features.items()}
            if found != expected:
                raise CheckpointError(
                    f"fusion 'sklearn': found features of dimensions {found!r}, expected "
                    f"{expected!r}; give those it was trained on, or train the branch again"
                )
            inputs = _standardised(_side_by_side(features), weights)
            table = np.zeros((len(inputs), int(weights["classes"])), np.float32)
            for start in range(0, len(inputs), CHUNK):
                rows = slice(start, start + CHUNK)
                table[rows, weights["present"]] = probabilities(inputs[rows])
            return table

        return predict

    def _check(self, present: IntArray, counts: IntArray) -> None:
        if len(present) < 2:
            raise RunError(
                f"fusion 'sklearn': found classes {present.tolist()!r} among the training samples, "
                "expected two or more; label samples of another class, or use fewer folds"
            )
        if self.estimator == "svm" and counts.min() < 2:
            raise RunError(
                f"fusion 'sklearn': found a single training sample of class "
                f"{present[counts.argmin()]}, expected two for the cross-validation of 'svm'; "
                "label another, leave the class out, or use another estimator"
            )


def _side_by_side(features: Features) -> FloatArray:
    return np.hstack([features[name] for name in sorted(features)])  # (samples, dims)


def _standardised(table: FloatArray, weights: Weights) -> FloatArray:
    mean, scale = weights["mean"].astype(np.float32), weights["scale"].astype(np.float32)
    return (table - mean) / scale
