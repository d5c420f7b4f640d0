from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mercore.components import IntArray
from mercore.metrics import accuracy, waf
from mercore.significance import holm, paired_bootstrap

CLASSES = 3


def decisions(seed: int, samples: int, right: float) -> tuple[IntArray, IntArray, IntArray]:
    """Return labels and two sets of decisions, the second right as often as `right` says."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, samples)
    wrong = random.integers(0, CLASSES, (2, samples))
    one = np.where(random.random(samples) < 0.7, labels, wrong[0])
    other = np.where(random.random(samples) < right, labels, wrong[1])
    return labels, one, other


def test_the_difference_is_that_of_the_scores() -> None:
    labels, one, other = decisions(0, 100, 0.5)
    found = paired_bootstrap(waf, labels, one, other, CLASSES)
    assert found.value == waf(labels, one, CLASSES) - waf(labels, other, CLASSES)
    assert found.low < found.value < found.high


def test_the_interval_is_that_of_scipy() -> None:
    labels, one, other = decisions(1, 120, 0.55)

    def difference(*rows: IntArray) -> float:
        return waf(rows[0], rows[1], CLASSES) - waf(rows[0], rows[2], CLASSES)

    expected = stats.bootstrap(
        (labels, one, other), difference, paired=True, vectorized=False, method="percentile",
        n_resamples=2000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    found = paired_bootstrap(waf, labels, one, other, CLASSES)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)


@pytest.mark.parametrize(("better", "worse"), [(9, 1), (7, 3), (5, 5), (12, 4)])
def test_p_is_that_of_the_exact_distribution_of_the_draws(better: int, worse: int) -> None:
    # Of 40 samples `one` alone is right on `better`, `other` alone on `worse`.
    labels = np.zeros(40, np.int64)
    one, other = labels.copy(), labels.copy()
    one[:worse], other[worse : worse + better] = 1, 1
    counts = np.arange(41)
    table = stats.multinomial(40, [better / 40, worse / 40, 1 - (better + worse) / 40])
    grid = np.stack(np.meshgrid(counts, counts), axis=-1)
    rest = 40 - grid.sum(axis=-1)
    chance = table.pmf(np.concatenate([grid, rest[..., None]], axis=-1))
    chance = np.where(rest >= 0, chance, 0)
    sides = [chance[grid[..., 0] <= grid[..., 1]], chance[grid[..., 0] >= grid[..., 1]]]
    expected = min(1.0, 2 * min(side.sum() for side in sides))
    found = paired_bootstrap(accuracy, labels, one, other, 2, draws=20_000)
    assert found.value == pytest.approx((better - worse) / 40)
    assert found.p == pytest.approx(expected, abs=0.015)


def test_p_is_below_a_twentieth_where_the_interval_leaves_out_zero() -> None:
    seen = set()
    for right in (0.5, 0.6, 0.65, 0.7, 0.8, 0.9):
        found = paired_bootstrap(waf, *decisions(3, 150, right), CLASSES, draws=1000)
        apart = found.low > 0 or found.high < 0
        assert apart == (found.p < 0.05)
        seen.add(apart)
    assert seen == {True, False}


def test_pairs_tell_apart_what_two_intervals_would_not() -> None:
    labels, one, _ = decisions(4, 300, 0.7)
    other = one.copy()
    right = np.flatnonzero(one == labels)[:9]
    other[right] = (labels[right] + 1) % CLASSES  # the same errors, and nine more
    assert paired_bootstrap(waf, labels, one, other, CLASSES).p < 0.01


def test_equal_decisions_do_not_differ() -> None:
    labels, one, _ = decisions(5, 50, 0.5)
    found = paired_bootstrap(waf, labels, one, one, CLASSES, draws=200)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_two_turns_the_difference_round() -> None:
    labels, one, other = decisions(6, 80, 0.5)
    found = paired_bootstrap(waf, labels, one, other, CLASSES)
    turned = paired_bootstrap(waf, labels, other, one, CLASSES)
    assert (turned.value, turned.low) == pytest.approx((-found.value, -found.high), abs=0.01)
    assert turned.p == pytest.approx(found.p, abs=0.01)


def test_the_order_of_the_samples_does_not_matter() -> None:
    labels, one, other = decisions(7, 90, 0.6)
    first = paired_bootstrap(waf, labels, one, other, CLASSES, draws=100)
    order = np.random.default_rng(0).permutation(90)
    moved = labels[order], one[order], other[order]
    assert paired_bootstrap(waf, *moved, CLASSES, draws=100) == first


def test_unlabelled_samples_are_refused() -> None:
    nothing = np.array([-1])
    with pytest.raises(ValueError, match="labels: found -1"):
        paired_bootstrap(waf, nothing, nothing, nothing, CLASSES)


def test_holm_adjusts_for_how_many_are_tested() -> None:
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and never less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
