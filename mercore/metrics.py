"""Scores of predicted classes: WAF, accuracy, macro F1, and how sure they are.

All of them are computed from a confusion matrix, with numpy alone. That makes the bootstrap cheap:
drawing samples again with replacement is one multinomial draw over the cells of the matrix.
Labels are class indices in ``[0, classes)``; the caller leaves unlabelled samples out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.components import IntArray

Float64Array = NDArray[np.float64]
Counts = NDArray[np.int64] | NDArray[np.float64]
"""``(..., classes, classes)`` samples by true class (rows) and predicted class (columns)."""


@dataclass(frozen=True)
class Metric:
    """A score in [0, 1]; call it with labels and predictions, or give ``of`` confusion matrices.

    ``waf(labels, predicted, classes)`` is one float; ``waf.of(counts)`` has the leading shape of
    `counts`. Raises ValueError when there is no sample or an index is not in ``[0, classes)``.
    """

    name: str
    of: Callable[[Counts], Float64Array]

    def __call__(self, labels: IntArray, predicted: IntArray, classes: int) -> float:
        """Return the score of `predicted`, both ``(samples,)`` class indices."""
        return float(self.of(_some(confusion(labels, predicted, classes))))


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, every one of shape ``(classes,)``; 0 where a division is by zero."""

    precision: Float64Array
    recall: Float64Array
    f1: Float64Array
    support: IntArray
    """How many samples have the class as their label."""


def confusion(labels: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Return ``(classes, classes)`` counts: true class by row, predicted class by column."""
    if labels.shape != predicted.shape:
        raise ValueError(f"{labels.shape} labels but {predicted.shape} predictions")
    for what, indices in (("labels", labels), ("predicted", predicted)):
        wrong = indices[(indices < 0) | (indices >= classes)]
        if wrong.size:
            raise ValueError(f"{what}: found {int(wrong[0])}, expected 0 to {classes - 1}")
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def per_class(labels: IntArray, predicted: IntArray, classes: int) -> ClassScores:
    """Return precision, recall, F1 and support of each class."""
    counts = confusion(labels, predicted, classes)
    hits = _hits(counts)
    return ClassScores(
        precision=_divide(hits, counts.sum(axis=0)),
        recall=_divide(hits, counts.sum(axis=1)),
        f1=_f1(counts),
        support=counts.sum(axis=1),
    )


def bootstrap(
    metric: Metric,
    labels: IntArray,
    predicted: IntArray,
    classes: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95% percentile interval of `metric` over `draws` resamplings of the samples.

    It covers the choice of samples, not the randomness of training. Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13.
    """
    counts = _some(confusion(labels, predicted, classes))
    total = int(counts.sum())
    random = np.random.default_rng(seed)
    drawn = random.multinomial(total, counts.ravel() / total, size=draws)
    scores = metric.of(drawn.reshape(draws, classes, classes))
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def _weighted_f1(counts: Counts) -> Float64Array:
    support = counts.sum(axis=-1)
    return _divide((_f1(counts) * support).sum(axis=-1), support.sum(axis=-1))


def _accuracy(counts: Counts) -> Float64Array:
    return _divide(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def _macro_f1(counts: Counts) -> Float64Array:
    occurring = (counts.sum(axis=-1) + counts.sum(axis=-2)) > 0
    return _divide(_f1(counts).sum(axis=-1), occurring.sum(axis=-1))


def _f1(counts: Counts) -> Float64Array:
    return _divide(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def _hits(counts: Counts) -> Float64Array:
    return np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)


def _divide(above: Float64Array, below: Counts) -> Float64Array:
    """Return ``above / below``, 0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=np.asarray(below) > 0)


def _some(counts: IntArray) -> IntArray:
    if not counts.any():
        raise ValueError("no samples, so there is no score")
    return counts


waf = Metric("waf", _weighted_f1)
"""Weighted average F1: F1 of each class, weighted by its support; the score of MER2023 and MER2024.

The same number as ``sklearn.metrics.f1_score(average="weighted", zero_division=0)``.
"""

accuracy = Metric("accuracy", _accuracy)
"""The share of samples whose predicted class is their label."""

macro_f1 = Metric("macro_f1", _macro_f1)
"""The mean F1 over the classes that occur among the labels or the predictions.

A class that a split neither has nor is given says nothing about the predictions, so it does not
count. The same number as ``sklearn.metrics.f1_score(average="macro", zero_division=0)``.
"""
