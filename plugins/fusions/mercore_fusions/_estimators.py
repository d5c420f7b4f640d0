"""The classifiers: fitted by scikit-learn, kept as arrays, computed in numpy.

=================  ======================================================================
estimator          arrays, beside those of `Sklearn.fit`; k classes are present
=================  ======================================================================
``svm``            see ``_svm.py``
``random_forest``  ``roots`` (trees,), ``depths`` (), and of each node: ``feature``,
                   ``threshold``, ``left``, ``right`` (nodes,), ``share`` (nodes, k)
``lda``            ``coef`` (k, dims), ``intercept`` (k,)
``knn``            ``sample`` (samples, dims), ``label`` (samples,)
=================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore import CheckpointError, Weights
from mercore.components import IntArray
from mercore.media import FloatArray
from mercore_fusions._svm import fit_svm, load_svm, squares
from mercore_fusions.sklearn import Sklearn

Array = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Probabilities = Callable[[FloatArray], NDArray[np.floating[Any]]]
"""``(samples, dims)`` to ``(samples, k)``."""


def fit(options: Sklearn, x: FloatArray, labels: IntArray, seed: int) -> Arrays:
    """Return the arrays of the fitted estimator; `labels` are 0 to k - 1, all of them there."""
    match options.estimator:
        case "svm":
            return fit_svm(options, x.astype(np.float64), labels, seed)
        case "random_forest":
            return _fit_forest(options, x, labels, seed)
        case "lda":
            return _fit_lda(options, x.astype(np.float64), labels)
        case "knn":
            return {"sample": x, "label": labels.astype(np.int64)}


def load(options: Sklearn, weights: Weights) -> Probabilities:
    """Return the function that predicts; CheckpointError names the arrays that are missing."""
    needed = {
        "svm": ("support", "coef", "intercept", "gamma", "slope", "offset"),
        "random_forest": ("roots", "depths", "feature", "threshold", "left", "right", "share"),
        "lda": ("coef", "intercept"),
        "knn": ("sample", "label"),
    }[options.estimator]
    missing = [
        name for name in ("mean", "scale", "present", "classes", *needed) if name not in weights
    ]
    if missing:
        raise CheckpointError(
            f"fusion 'sklearn': weights without {missing!r} cannot be those of estimator "
            f"{options.estimator!r}; use the options they were trained with, or train again"
        )
    match options.estimator:
        case "svm":
            return load_svm(options, weights)
        case "random_forest":
            return _load_forest(weights)
        case "lda":
            return _load_lda(weights)
        case "knn":
            return _load_knn(options, weights)


def _fit_forest(options: Sklearn, x: FloatArray, labels: IntArray, seed: int) -> Arrays:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=options.trees,
        max_depth=options.depth,
        class_weight=None if options.class_weights == "none" else "balanced",
        random_state=seed,
    ).fit(x, labels)
    trees = [tree.tree_ for tree in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    here = np.arange(len(leaf))
    left, right = (
        np.concatenate(
            [getattr(t, f"children_{side}") + r for t, r in zip(trees, roots, strict=True)]
        )
        for side in ("left", "right")
    )
    value = np.concatenate([tree.value[:, 0] for tree in trees])  # (nodes, k)
    return {
        "roots": roots.astype(np.int32),
        "depths": np.array(max(tree.max_depth for tree in trees), np.int32),
        "feature": np.where(leaf, 0, np.concatenate([t.feature for t in trees])).astype(np.int32),
        "threshold": np.concatenate([tree.threshold for tree in trees]),
        # A leaf leads to itself: shallow leaves need no exception.
        "left": np.where(leaf, here, left).astype(np.int32),
        "right": np.where(leaf, here, right).astype(np.int32),
        "share": (value / value.sum(axis=1, keepdims=True)).astype(np.float32),
    }


def _load_forest(weights: Weights) -> Probabilities:
    feature, threshold, left, right, share = (
        weights[name] for name in ("feature", "threshold", "left", "right", "share")
    )

    def probabilities(x: FloatArray) -> NDArray[np.floating[Any]]:
        node = np.broadcast_to(weights["roots"], (len(x), len(weights["roots"])))
        for _ in range(int(weights["depths"])):
            # scikit-learn compares float32 values with float64 thresholds, too.
            value = np.take_along_axis(x, feature[node], axis=1)  # (samples, trees)
            node = np.where(value <= threshold[node], left[node], right[node])
        found: NDArray[np.floating[Any]] = share[node].mean(axis=1, dtype=np.float64)
        return found

    return probabilities


def _fit_lda(options: Sklearn, x: Array, labels: IntArray) -> Arrays:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    count = int(labels.max()) + 1
    priors = None if options.class_weights == "none" else np.full(count, 1 / count)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
    model.fit(x, labels)
    # Of two classes scikit-learn keeps the second alone, against 0 for the first.
    lacking = count - len(model.coef_)
    return {
        "coef": np.pad(model.coef_, ((lacking, 0), (0, 0))).astype(np.float32),
        "intercept": np.pad(model.intercept_, (lacking, 0)).astype(np.float32),
    }


def _load_lda(weights: Weights) -> Probabilities:
    coef, intercept = (weights[name].astype(np.float64) for name in ("coef", "intercept"))

    def probabilities(x: FloatArray) -> Array:
        logits = x @ coef.T + intercept  # (samples, k)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Array = odds / odds.sum(axis=1, keepdims=True)
        return found

    return probabilities


def _load_knn(options: Sklearn, weights: Weights) -> Probabilities:
    sample, label = weights["sample"].astype(np.float64), weights["label"]
    votes = np.eye(len(weights["present"]))[label]  # (training samples, k)
    nearest = min(options.neighbours, len(sample))

    def probabilities(x: FloatArray) -> Array:
        y = x.astype(np.float64)
        order = squares(y, sample, y @ sample.T).argsort(axis=1, kind="stable")
        found: Array = votes[order[:, :nearest]].mean(axis=1)
        return found

    return probabilities
