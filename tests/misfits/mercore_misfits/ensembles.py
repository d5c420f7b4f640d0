"""An ensemble that breaks no rule, and others that break one each."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import ClassVar

import numpy as np

from mercore.components import Decision, Ensemble, IntArray, Votes
from mercore.media import FloatArray

COUNTER = itertools.count()
CHANCE = np.random.default_rng()


def mean_of(votes: Votes) -> FloatArray:
    order = np.argsort(np.array(votes.names))
    mean: FloatArray = votes.probabilities[order].mean(axis=0, dtype=np.float32)
    return mean


def best_class(table: FloatArray) -> IntArray:
    return np.asarray(table.argmax(axis=1), np.int64)


class Mean(Ensemble):
    name: ClassVar[str] = "mean_misfit"

    def labels(self, votes: Votes) -> IntArray:
        return best_class(mean_of(votes))

    def decide(self, votes: Votes) -> Decision:
        labels = self.labels(votes)
        agree = votes.probabilities.argmax(axis=2) == labels
        return Decision(labels, mean_of(votes), agree.mean(axis=0, dtype=np.float32))


class FirstBranch(Mean):
    name: ClassVar[str] = "first_branch"

    def labels(self, votes: Votes) -> IntArray:
        return best_class(votes.probabilities[0])


class TieByPosition(Mean):
    name: ClassVar[str] = "tie_by_position"

    def labels(self, votes: Votes) -> IntArray:
        best = int(votes.scores.argmax())  # the first of equal ones
        return best_class(votes.probabilities[best])


class TieByChance(Mean):
    name: ClassVar[str] = "tie_by_chance"

    def labels(self, votes: Votes) -> IntArray:
        mean = mean_of(votes)
        best = mean == mean.max(axis=1, keepdims=True)
        return best_class(best * CHANCE.uniform(0.5, 1, mean.shape))


class Summed(Mean):
    name: ClassVar[str] = "summed"

    def decide(self, votes: Votes) -> Decision:
        decision = super().decide(votes)
        return replace(decision, probabilities=decision.probabilities * len(votes.names))


class Counted(Mean):
    name: ClassVar[str] = "counted"

    def decide(self, votes: Votes) -> Decision:
        decision = super().decide(votes)
        return replace(decision, support=decision.support * len(votes.names))


class ShortLabels(Mean):
    name: ClassVar[str] = "short_labels"

    def labels(self, votes: Votes) -> IntArray:
        return super().labels(votes).astype(np.int32)


class Drifting(Mean):
    name: ClassVar[str] = "drifting"

    def decide(self, votes: Votes) -> Decision:
        decision = super().decide(votes)
        drift = np.float32(1e-6 * next(COUNTER))
        return replace(decision, probabilities=decision.probabilities + drift)


class SecondBest(Mean):
    name: ClassVar[str] = "second_best"

    def decide(self, votes: Votes) -> Decision:
        np.sort(votes.scores)[-2]
        return super().decide(votes)


class ScalesInPlace(Mean):
    name: ClassVar[str] = "scales_in_place"

    def decide(self, votes: Votes) -> Decision:
        decision = super().decide(votes)
        votes.scores[...] /= votes.scores.sum()
        return decision
