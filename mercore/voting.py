"""How branches vote: the built-in ensembles, a plugin like any other, in plain numpy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mercore.components import Decision, Ensemble, IntArray, Votes
from mercore.errors import PluginError
from mercore.hookspecs import hookimpl
from mercore.media import FloatArray


def decide(ensemble: Ensemble, votes: Votes) -> Decision:
    """Return what the ensemble decides; raises PluginError when that is not one class a sample."""
    decision = ensemble.decide(votes)
    _, samples, classes = votes.probabilities.shape
    labels = decision.labels
    if labels.shape != (samples,) or labels.min() < 0 or labels.max() >= classes:
        raise PluginError(
            f"ensemble {ensemble.name!r} must decide one of {classes} classes a sample"
        )
    if decision.probabilities.shape != (samples, classes) or decision.support.shape != (samples,):
        raise PluginError(
            f"ensemble {ensemble.name!r} gave probabilities or support of another shape"
        )
    return decision


class RankMode(Ensemble):
    """The mode of the best branches: Ge et al. (2024), section 2.5 and Figure 4.

    Take the most frequent label of all branches. While it is not unique, leave out the branch
    with the lowest score and take the mode of the rest. Deviation: the paper ranks by the metric
    on the test set, which leaks; the scores here are of the out-of-fold validation. Branches with
    equal scores rank by name.
    """

    name: ClassVar[str] = "rank_mode"

    def decide(self, votes: Votes) -> Decision:
        """Return the mode of the labels among the best branches that have a unique one."""
        best_first = sorted(
            range(len(votes.names)), key=lambda branch: (-votes.scores[branch], votes.names[branch])
        )
        ballots = votes.probabilities[best_first].argmax(axis=2)  # (branches, samples)
        classes = votes.probabilities.shape[2]
        labels = np.full(ballots.shape[1], -1, dtype=np.int64)
        for kept in range(len(best_first), 0, -1):
            counts = _counts(ballots[:kept], classes)
            unique = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
            undecided = labels < 0
            labels = np.where(undecided & unique, counts.argmax(axis=1), labels)
        return _decision(labels, votes)


class MeanProbability(Ensemble):
    """The class with the highest mean probability over the branches."""

    name: ClassVar[str] = "mean_probability"

    def decide(self, votes: Votes) -> Decision:
        """Return the class of the highest mean; the first class wins an exact tie."""
        return _decision(_mean(votes).argmax(axis=1), votes)


class Majority(Ensemble):
    """The label most branches give; the higher mean probability decides between equal counts."""

    name: ClassVar[str] = "majority"

    def decide(self, votes: Votes) -> Decision:
        """Return the most frequent label."""
        counts = _counts(votes.probabilities.argmax(axis=2), votes.probabilities.shape[2])
        most = counts == counts.max(axis=1, keepdims=True)
        return _decision(np.where(most, _mean(votes), -1.0).argmax(axis=1), votes)


def _counts(ballots: IntArray, classes: int) -> IntArray:
    """Return ``(samples, classes)`` votes from ``(branches, samples)`` labels."""
    counts: IntArray = (ballots[:, :, None] == np.arange(classes)).sum(axis=0)
    return counts


def _mean(votes: Votes) -> FloatArray:
    # Summed in the order of the names: float addition would otherwise see the order of branches.
    order = np.argsort(np.array(votes.names))
    mean: FloatArray = votes.probabilities[order].mean(axis=0, dtype=np.float32)
    return mean  # (samples, classes)


def _decision(labels: IntArray, votes: Votes) -> Decision:
    ballots = votes.probabilities.argmax(axis=2)
    support = (ballots == labels).mean(axis=0, dtype=np.float32)
    return Decision(labels.astype(np.int64), _mean(votes), support)


@hookimpl
def ensembles() -> list[type[Ensemble]]:
    """Return the built-in ensembles."""
    return [RankMode, MeanProbability, Majority]
