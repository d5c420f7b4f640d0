from __future__ import annotations

import itertools

import numpy as np
import pytest

from mercore.components import Votes
from mercore.errors import RunError
from mercore.testing import EnsembleTests
from mercore.voting import Majority, MeanLogit, MeanProbability, RankMode, Stacking


def votes(*ballots: int, scores: tuple[float, ...] | None = None, classes: int = 4) -> Votes:
    """Return one sample's votes, the best branch first; each is sure of its label."""
    names = tuple("abcdefgh"[: len(ballots)])
    probabilities = np.full((len(ballots), 1, classes), 0.1, np.float32)
    for branch, label in enumerate(ballots):
        probabilities[branch, 0, label] = 1 - 0.1 * (classes - 1)
    ranked = scores or tuple(0.9 - 0.1 * i for i in range(len(ballots)))
    return Votes(names, probabilities, np.array(ranked, np.float32))


def reordered(given: Votes, order: tuple[int, ...]) -> Votes:
    return Votes(
        tuple(given.names[i] for i in order),
        given.probabilities[list(order)],
        given.scores[list(order)],
    )


@pytest.mark.parametrize(
    ("ballots", "label"),
    [
        ((1,), 1),
        ((1, 2), 1),  # two modes: the last is dropped, the best branch decides
        ((1, 2, 2), 2),
        ((1, 2, 3), 1),  # three modes, then two, then one
        ((1, 2, 2, 1), 2),  # 1 and 2 tie; without the last, 2 is the mode
        ((1, 2, 1, 2), 1),
        ((1, 1, 2, 2), 1),
        ((0, 1, 2, 3), 0),
        ((3, 2, 2, 3, 1), 2),  # 2 and 3 tie at five and at four branches; at three, 2
        ((1, 2, 2, 3, 3), 2),
    ],
)
def test_rank_mode_is_figure_4(ballots: tuple[int, ...], label: int) -> None:
    assert RankMode().decide(votes(*ballots)).labels.tolist() == [label]


def test_rank_mode_agrees_with_the_rule_written_as_a_loop() -> None:
    for ballots in itertools.product(range(3), repeat=5):
        kept = list(ballots)
        while True:
            counts = [kept.count(label) for label in range(3)]
            if counts.count(max(counts)) == 1:
                break
            kept.pop()
        expected = counts.index(max(counts))
        assert RankMode().decide(votes(*ballots)).labels.tolist() == [expected], ballots


def test_majority_breaks_a_tie_by_mean_probability() -> None:
    given = votes(1, 2)
    given.probabilities[1, 0] = [0.0, 0.0, 1.0, 0.0]
    assert Majority().decide(given).labels.tolist() == [2]


def test_mean_probability_may_overrule_the_majority() -> None:
    given = votes(1, 1, 2, classes=3)
    given.probabilities[:2, 0] = [0.3, 0.4, 0.3]
    given.probabilities[2, 0] = [0.0, 0.0, 1.0]
    assert MeanProbability().decide(given).labels.tolist() == [2]
    assert Majority().decide(given).labels.tolist() == [1]


def test_mean_logit_is_the_geometric_mean() -> None:
    given = votes(1, 1, 2, classes=3)
    given.probabilities[:, 0] = [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3], [0.4999, 0.0001, 0.5]]
    mean = np.exp(np.log(given.probabilities[:, 0]).mean(axis=0))
    decision = MeanLogit().decide(given)
    np.testing.assert_allclose(decision.probabilities[0], mean / mean.sum(), atol=1e-6)
    assert decision.labels.tolist() == [2]
    assert MeanProbability().decide(given).labels.tolist() == [1]


def test_a_probability_of_0_does_not_break_the_mean_logit() -> None:
    given = votes(1, 2, classes=3)
    given.probabilities[:, 0] = [[0, 1, 0], [0, 0, 1]]
    assert np.isfinite(MeanLogit().decide(given).probabilities).all()


def confused(samples: int = 300) -> Votes:
    """Return a branch that takes 0 for 1 and 1 for 0, one that knows a little, half labelled."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, samples)
    turned = np.array([1, 0, 2])[labels]
    table = np.full((2, samples, 3), 0.2, np.float32)
    table[0, np.arange(samples), turned] = 0.6
    guess = np.where(random.random(samples) < 0.5, labels, random.integers(0, 3, samples))
    table[1, np.arange(samples), guess] = 0.6
    known = np.where(np.arange(samples) < samples // 2, labels, -1)
    return Votes(("a", "b"), table, np.array([0.4, 0.6], np.float32), known)


def test_stacking_learns_what_a_branch_mistakes() -> None:
    given = confused()
    labels = np.random.default_rng(0).integers(0, 3, 300)
    assert (MeanProbability().decide(given).labels == labels).mean() < 0.7
    assert (Stacking().decide(given).labels == labels).mean() > 0.95


def test_stacking_decides_a_training_sample_without_its_own_label() -> None:
    """Votes that say nothing about the labels: knowing its own label would beat chance."""
    random = np.random.default_rng(1)
    table = random.dirichlet(np.ones(2), (12, 60)).astype(np.float32)
    labels = random.permutation(np.arange(60) % 2)
    given = Votes(tuple("abcdefghijkl"), table, np.zeros(12, np.float32), labels)
    assert (Stacking(c=1e6).decide(given).labels == labels).mean() < 0.65


def test_stacking_without_labels_is_an_error() -> None:
    with pytest.raises(RunError, match="fewer than two classes of training samples"):
        Stacking().decide(votes(1, 2))


def test_support_is_the_share_of_branches_that_agree() -> None:
    decision = RankMode().decide(votes(1, 2, 2, 1))
    assert decision.support.tolist() == [0.5]
    assert decision.probabilities.sum(axis=1) == pytest.approx(1)


class TestRankMode(EnsembleTests):
    component = RankMode()


class TestMeanProbability(EnsembleTests):
    component = MeanProbability()


class TestMajority(EnsembleTests):
    component = Majority()


class TestMeanLogit(EnsembleTests):
    component = MeanLogit()


class TestStacking(EnsembleTests):
    component = Stacking()
