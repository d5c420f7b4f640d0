from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mercore.components import IntArray
from mercore.metrics import Metric, accuracy, bootstrap, confusion, macro_f1, per_class, waf

CLASSES = 6


def guesses(seed: int, samples: int, *, used: int = CLASSES) -> tuple[IntArray, IntArray]:
    """Return labels and predictions that agree about half the time."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, used, samples)
    other = random.integers(0, CLASSES, samples)
    return labels, np.where(random.random(samples) < 0.5, labels, other)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("samples", "used"), [(1, 6), (5, 2), (40, 3), (500, 6)])
def test_scores_equal_those_of_sklearn(seed: int, samples: int, used: int) -> None:
    labels, predicted = guesses(seed, samples, used=used)
    f1_score = sklearn_metrics.f1_score
    weighted = f1_score(labels, predicted, average="weighted", zero_division=0)
    macro = f1_score(labels, predicted, average="macro", zero_division=0)
    assert waf(labels, predicted, CLASSES) == pytest.approx(weighted, abs=1e-12)
    assert macro_f1(labels, predicted, CLASSES) == pytest.approx(macro, abs=1e-12)
    expected = sklearn_metrics.accuracy_score(labels, predicted)
    assert accuracy(labels, predicted, CLASSES) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_equal_those_of_sklearn(seed: int) -> None:
    labels, predicted = guesses(seed, 30, used=4)
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(CLASSES), zero_division=0
    )
    scores = per_class(labels, predicted, CLASSES)
    found = (scores.precision, scores.recall, scores.f1, scores.support)
    np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=1e-12)


def test_rows_of_the_confusion_matrix_are_the_true_classes() -> None:
    counts = confusion(np.array([0, 0, 1]), np.array([2, 2, 1]), 3)
    assert counts.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("metric", [waf, accuracy, macro_f1])
def test_perfect_is_one_and_always_wrong_is_zero(metric: Metric) -> None:
    labels = np.array([0, 1, 1, 3])
    assert metric(labels, labels, 4) == 1.0
    assert metric(labels, (labels + 1) % 4, 4) == 0.0


@pytest.mark.parametrize("metric", [waf, accuracy, macro_f1])
def test_the_interval_is_that_of_drawing_the_samples_themselves(metric: Metric) -> None:
    labels, predicted = guesses(3, 150)
    random = np.random.default_rng(11)
    picks = random.integers(0, 150, (4000, 150))
    scores = [metric(labels[pick], predicted[pick], CLASSES) for pick in picks]
    low, high = bootstrap(metric, labels, predicted, CLASSES, draws=4000)
    assert (low, high) == pytest.approx(tuple(np.quantile(scores, (0.025, 0.975))), abs=0.01)


def test_the_interval_holds_the_score_and_narrows_with_more_samples() -> None:
    widths = []
    for samples in (100, 10_000):
        labels, predicted = guesses(7, samples)
        low, high = bootstrap(waf, labels, predicted, CLASSES)
        assert low < waf(labels, predicted, CLASSES) < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.2)


def test_the_interval_of_a_seed_is_always_the_same() -> None:
    labels, predicted = guesses(1, 80)
    first = bootstrap(waf, labels, predicted, CLASSES, seed=5)
    assert bootstrap(waf, labels, predicted, CLASSES, seed=5) == first
    assert bootstrap(waf, labels, predicted, CLASSES, seed=6) != first


def test_ten_tables_of_five_thousand_samples_take_less_than_two_seconds() -> None:
    tables = [guesses(seed, 5000) for seed in range(10)]
    start = time.process_time()
    for labels, predicted in tables:
        bootstrap(waf, labels, predicted, CLASSES, draws=1000)
    assert time.process_time() - start < 2


def test_unlabelled_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="labels: found -1, expected 0 to 2"):
        waf(np.array([0, -1]), np.array([0, 1]), 3)


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="predicted: found 3, expected 0 to 2"):
        confusion(np.array([0, 1]), np.array([0, 3]), 3)


def test_labels_and_predictions_must_be_of_the_same_samples() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) labels but \(1,\) predictions"):
        confusion(np.array([0, 1]), np.array([0]), 3)


def test_no_samples_have_no_score() -> None:
    nothing = np.array([], np.int64)
    with pytest.raises(ValueError, match="no samples"):
        waf(nothing, nothing, 3)
    with pytest.raises(ValueError, match="no samples"):
        bootstrap(waf, nothing, nothing, 3)
