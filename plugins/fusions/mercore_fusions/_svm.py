"""The support vector machine: fitted by scikit-learn, kept as arrays, computed in numpy.

Its arrays: ``support`` ``(vectors, dims)``, ``coef`` ``(pairs, vectors)``, ``intercept``
``(pairs,)``, ``gamma`` ``()``, and ``slope`` and ``offset`` of the sigmoids, ``(k,)`` for k classes
but ``(1,)`` for two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mercore import Weights
from mercore.components import IntArray
from mercore.media import FloatArray
from mercore_fusions.sklearn import Sklearn

Array = NDArray[np.float64]

FOLDS = 5  # of the calibration; the default of scikit-learn


def fit_svm(options: Sklearn, x: Array, labels: IntArray, seed: int) -> Mapping[str, Array]:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    gamma = 1 / (x.shape[1] * x.var()) if x.var() else 1.0
    folds = StratifiedKFold(min(FOLDS, np.bincount(labels).min()), shuffle=True, random_state=seed)
    balance = None if options.class_weights == "none" else "balanced"
    machine = SVC(C=options.c, kernel="precomputed", class_weight=balance)
    model = CalibratedClassifierCV(machine, cv=folds, ensemble=False)
    # Products of all samples, computed once: libsvm would compute them again for every fold.
    model.fit(_kernel(options, x, x, gamma), labels)
    (calibrated,) = model.calibrated_classifiers_
    machine = calibrated.estimator
    return {
        "support": x[machine.support_].astype(np.float32),
        "coef": _pairs(machine.dual_coef_, machine.n_support_),
        "intercept": machine.intercept_,
        "gamma": np.array(gamma),
        "slope": np.array([sigmoid.a_ for sigmoid in calibrated.calibrators]),
        "offset": np.array([sigmoid.b_ for sigmoid in calibrated.calibrators]),
    }


def _pairs(dual: Array, counts: IntArray) -> Array:
    """Return ``(pairs, vectors)``, what each support vector counts in each pair of classes.

    libsvm keeps the vectors class by class, and of each its k - 1 coefficients against the other
    classes in their order.
    """
    ends = np.cumsum(counts)
    of_class = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    pairs = list(combinations(range(len(counts)), 2))
    coef = np.zeros((len(pairs), dual.shape[1]))
    for row, (one, other) in enumerate(pairs):
        coef[row, of_class[one]] = dual[other - 1, of_class[one]]
        coef[row, of_class[other]] = dual[one, of_class[other]]
    return coef


def _kernel(options: Sklearn, x: Array, y: Array, gamma: float) -> Array:
    products: Array = x @ y.T  # (samples, vectors)
    if options.kernel == "linear":
        return products
    found: Array = np.exp(-gamma * squares(x, y, products))
    return found


def squares(x: Array, y: Array, products: Array) -> Array:
    """Return ``(samples, vectors)`` squared distances."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * products
    found: Array = np.maximum(squares, 0)
    return found


def load_svm(options: Sklearn, weights: Weights) -> Callable[[FloatArray], Array]:
    held: dict[str, Array] = {
        name: weights[name].astype(np.float64)
        for name in ("support", "coef", "intercept", "slope", "offset")
    }
    gamma, count = float(weights["gamma"]), len(weights["present"])

    def probabilities(x: FloatArray) -> Array:
        kernel = _kernel(options, x.astype(np.float64), held["support"], gamma)
        pairs = kernel @ held["coef"].T + held["intercept"]  # (samples, pairs)
        score = pairs if count == 2 else _votes(pairs, count)
        odds = np.exp(-np.logaddexp(0, held["slope"] * score + held["offset"]))
        if count == 2:
            return np.hstack([1 - odds, odds])
        total = odds.sum(axis=1, keepdims=True)
        even = np.full_like(odds, 1 / count)
        found: Array = np.divide(odds, total, out=even, where=total > 0)
        return found

    return probabilities


def _votes(pairs: Array, count: int) -> Array:
    """Return ``(samples, k)``: how many pairs a class wins, plus by how much, within 1 / 3."""
    wins, margin = np.zeros((2, len(pairs), count))
    for column, (one, other) in enumerate(combinations(range(count), 2)):
        score = pairs[:, column]  # above 0: `one`
        wins[:, one] += score >= 0
        wins[:, other] += score < 0
        margin[:, one] += score
        margin[:, other] -= score
    found: Array = wins + margin / (3 * (np.abs(margin) + 1))
    return found
