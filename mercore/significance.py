"""Whether one set of decisions is better than another on the same samples.

Two branches that are scored on the same samples err on many of them together, so their intervals
may overlap although one is clearly better. The paired bootstrap draws samples and looks at the
difference on each draw: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13 and section 15.4; Koehn, "Statistical Significance Tests for Machine Translation Evaluation",
EMNLP 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mercore.components import IntArray
from mercore.metrics import Float64Array, Metric

_AT_ONCE = 500  # draws held at a time: their matrices then fit the cache


@dataclass(frozen=True)
class Difference:
    """How much higher one set of decisions scores than another on the same samples."""

    value: float
    low: float
    """Of the 95% percentile interval over the draws."""
    high: float
    p: float
    """Two-sided: twice the share of draws on the less frequent side of zero, at most 1."""


def paired_bootstrap(
    metric: Metric,
    labels: IntArray,
    one: IntArray,
    other: IntArray,
    classes: int,
    *,
    draws: int = 5_000,
    seed: int = 0,
) -> Difference:
    """Return the score of `one` minus that of `other`, with how sure it is.

    All three are ``(samples,)`` class indices; raises ValueError as `metric` does. Both the
    interval and ``p`` cover the choice of samples, not the chance of training, and but for the
    last digit ``p`` is below 0.05 where the interval leaves out zero. Draws of no difference count
    for both sides, and one draw is added to each, so that ``p`` is never 0: Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, section 4.2.
    """
    value = metric(labels, one, classes) - metric(labels, other, classes)
    random = np.random.default_rng(seed)
    sizes = [min(_AT_ONCE, draws - start) for start in range(0, draws, _AT_ONCE)]
    cells, counts = np.unique(np.stack([labels, one, other]), axis=1, return_counts=True)
    found = np.concatenate([_draw(metric, cells, counts, classes, size, random) for size in sizes])
    # Sums in another order differ in the last bits; that is no difference.
    found[np.abs(found) < 1e-12] = 0.0
    low, high = np.quantile(found, (0.025, 0.975))
    side = min(int((found <= 0).sum()), int((found >= 0).sum()))
    p = min(1.0, 2 * (side + 1) / (draws + 1))
    return Difference(float(value), float(low), float(high), p)


def _draw(
    metric: Metric,
    cells: IntArray,
    counts: IntArray,
    classes: int,
    size: int,
    random: np.random.Generator,
) -> Float64Array:
    """Return ``(size,)`` differences, each of as many samples as there are.

    `cells` are the ``(3, cells)`` distinct triples of label and decisions; drawing samples is one
    multinomial draw over them.
    """
    total = int(counts.sum())
    drawn = random.multinomial(total, counts / total, size=size).astype(np.float64)
    labels, one, other = cells
    first, second = (
        drawn @ _places(labels, decided, classes)  # (size, classes * classes)
        for decided in (one, other)
    )
    shape = (size, classes, classes)
    difference: Float64Array = metric.of(first.reshape(shape)) - metric.of(second.reshape(shape))
    return difference


def _places(labels: IntArray, decided: IntArray, classes: int) -> Float64Array:
    """Return ``(cells, classes * classes)``: a one where each cell is in a confusion matrix."""
    places = np.zeros((len(labels), classes * classes))
    places[np.arange(len(labels)), labels * classes + decided] = 1.0
    return places


def holm(p: Sequence[float]) -> list[float]:
    """Return the values adjusted for being so many, in order.

    A value at most 0.05 then says that, with a chance of 95%, none of those below it is a
    difference by chance. S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted
