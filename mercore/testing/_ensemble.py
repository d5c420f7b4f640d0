"""The suite for ensembles, on made-up votes: some spread, some tied."""

from __future__ import annotations

from itertools import permutations, product
from typing import ClassVar

import numpy as np

from mercore.components import Component, Decision, Ensemble, IntArray, Votes
from mercore.testing._suite import ComponentTests

NAMES = ("atv", "avj", "ij", "tv")
CLASSES = 3


def spread() -> Votes:
    """Return 60 samples' votes of four branches with different scores and no ties of numbers."""
    table = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.5), (len(NAMES), 60))
    scores = np.array([0.71, 0.84, 0.62, 0.77], np.float32)
    return Votes(NAMES, table.astype(np.float32), scores, some_labels(60))


def tied() -> Votes:
    """Return the votes of branches with one score, equally sure, for every choice of labels."""
    ballots = np.array(list(product(range(CLASSES), repeat=len(NAMES)))).T  # (branches, samples)
    table = np.full((*ballots.shape, CLASSES), 0.25, np.float32)
    np.put_along_axis(table, ballots[..., None], 0.5, axis=2)
    scores = np.full(len(NAMES), 0.7, np.float32)
    return Votes(NAMES, table, scores, some_labels(ballots.shape[1]))


def some_labels(samples: int) -> IntArray:
    """Return the labels of the first half, each class in turn, -1 for the others."""
    rows = np.arange(samples)
    return np.where(rows < samples // 2, rows % CLASSES, -1)


def reordered(votes: Votes, order: tuple[int, ...]) -> Votes:
    """Return the votes with the branches, or some of them, in another order."""
    index = list(order)
    names = tuple(votes.names[i] for i in order)
    return Votes(names, votes.probabilities[index].copy(), votes.scores[index].copy(), votes.labels)


class EnsembleTests(ComponentTests):
    """What mercore expects of an ensemble. Set ``component``."""

    component: Ensemble
    _kind: ClassVar[type[Component]] = Ensemble

    def _decide(self, votes: Votes) -> Decision:
        # On copies: that the votes are left alone is a check of its own.
        return self.component.decide(reordered(votes, tuple(range(len(votes.names)))))

    def test_a_decision_has_its_shapes_and_types(self) -> None:
        """Labels are ``(samples,)`` int64 classes; probabilities and support are float32.

        Why: predictions, reports and mining read it without looking again.

        Cure: `labels.astype(np.int64)`, `.astype(np.float32)`; one row a sample.
        """
        decision = self._decide(spread())
        for name, dtype, shape in (
            ("labels", "int64", (60,)),
            ("probabilities", "float32", (60, CLASSES)),
            ("support", "float32", (60,)),
        ):
            found = getattr(decision, name)
            about = (str(found.dtype), found.shape)
            self.require(about == (dtype, shape), f"{name} is {about}, expected {(dtype, shape)}")
        known = set(range(CLASSES))
        labels = set(decision.labels.tolist())
        self.require(labels <= known, f"labels are {labels}, expected some of {known}")

    def test_probabilities_sum_to_1(self) -> None:
        """The probabilities are finite, not negative, and those of a sample sum to 1.

        Why: they stand in predictions.csv, and people read them as probabilities.

        Cure: take a mean over the branches, not a sum; divide weighted ones by the weights' sum.
        """
        table = self._decide(spread()).probabilities
        self.require(np.isfinite(table).all() and table.min() >= 0, "values below 0 or not finite")
        sums = table.sum(axis=1)
        self.require(np.abs(sums - 1).max() < 1e-3, f"rows sum to {sums.min()} .. {sums.max()}")

    def test_support_is_the_share_of_branches_that_agree(self) -> None:
        """Support is how many of all branches have the decided label as their best, as a share.

        Why: mining takes a label where support is high enough.

        Cure: `(probabilities.argmax(axis=2) == labels).mean(axis=0)`, over all branches.
        """
        votes = spread()
        decision = self._decide(votes)
        expected = (votes.probabilities.argmax(axis=2) == decision.labels).mean(axis=0)
        right = np.allclose(decision.support, expected, atol=1e-6)
        self.require(right, f"support is {decision.support[:4]} .., expected {expected[:4]} ..")

    def test_the_order_of_the_branches_does_not_matter(self) -> None:
        """Every order of the branches gives the same decision, bit for bit.

        Why: to sort a registry otherwise is no other experiment.

        Cure: sort the branches by score and name before anything is summed or chosen.
        """
        self._is_the_same_in_every_order(spread())

    def test_ties_are_decided_and_always_alike(self) -> None:
        """Equal counts, scores and probabilities give the same decision each time, in any order.

        Why: with few branches ties are common, and a run must come out alike again.

        Cure: let the names decide between equal branches, and the class number between equal
        classes; nothing random, nothing by position.
        """
        self._is_the_same_in_every_order(tied())
        decided = self._decide(tied()).labels
        self.require(((decided >= 0) & (decided < CLASSES)).all(), f"labels are {set(decided)}")

    def test_the_same_votes_give_the_same_decision_twice(self) -> None:
        """A second call gives the same bits.

        Why: a run must come out alike again.

        Cure: keep nothing from call to call; nothing random.
        """
        found = difference(self._decide(spread()), self._decide(spread()))
        self.require(not found, f"the {found} differ between two calls")

    def test_one_branch_is_enough(self) -> None:
        """The votes of one branch alone give a decision.

        Why: a registry may have a single branch, and an ablation leaves out all others.

        Cure: let nothing depend on how many branches there are.
        """
        try:
            decision = self._decide(reordered(spread(), (0,)))
        except Exception as error:
            self.fail(f"one branch raises {type(error).__name__}: {error}", error)
        finite = np.isfinite(decision.probabilities).all() and np.isfinite(decision.support).all()
        self.require(finite, "one branch gives NaN or infinite values")

    def test_the_votes_are_not_modified(self) -> None:
        """The votes are the same after the call.

        Why: the report reads the same arrays.

        Cure: compute into new arrays; no `*=`, no `sort()` in place.
        """
        given = spread()
        self.component.decide(given)
        kept = spread()
        unchanged = (
            given.probabilities.tobytes() == kept.probabilities.tobytes()
            and given.scores.tobytes() == kept.scores.tobytes()
        )
        self.require(unchanged, "the call changed the probabilities or the scores")

    def _is_the_same_in_every_order(self, votes: Votes) -> None:
        __tracebackhide__ = True
        first = self._decide(votes)
        for order in permutations(range(len(NAMES))):
            found = difference(first, self._decide(reordered(votes, order)))
            names = ", ".join(NAMES[i] for i in order)
            self.require(not found, f"the {found} differ for the order {names}")


def difference(one: Decision, other: Decision) -> str:
    """Return the first part of two decisions that is not the same bit for bit, or ``""``."""
    for name in ("labels", "probabilities", "support"):
        if getattr(one, name).tobytes() != getattr(other, name).tobytes():
            return name
    return ""
