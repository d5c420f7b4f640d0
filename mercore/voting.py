"""How branches vote: the built-in ensembles, a plugin like any other, in plain numpy."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
from pydantic import Field

from mercore.citations import MERBENCH, REFERENCE, SCIKIT_LEARN
from mercore.components import Decision, Ensemble, IntArray, Votes
from mercore.errors import PluginError, RunError
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
    citation: ClassVar[str] = REFERENCE

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


class MeanLogit(Ensemble):
    """The class with the highest mean log-probability over the branches: their geometric mean.

    Logits, as MERBench averages them over folds (Lian et al., 2024, arXiv:2401.03429), are
    log-probabilities but for a constant a sample. One branch that rules a class out outweighs many
    that only prefer it. Probabilities below 1e-9 count as that.
    """

    name: ClassVar[str] = "mean_logit"
    citation: ClassVar[str] = MERBENCH

    def decide(self, votes: Votes) -> Decision:
        """Return the class of the highest mean; the first class wins an exact tie."""
        logits = _logits(votes).mean(axis=0)  # (samples, classes)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        table = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return _decision(logits.argmax(axis=1), votes, table)


class Stacking(Ensemble):
    """What a logistic regression makes of the log-probabilities of the branches.

    It is fitted on the out-of-fold votes of the training samples; a training sample is decided by
    one that was not fitted on it, so that the score of those is as honest as the branches' own.

    Wolpert, "Stacked Generalization", Neural Networks 5, 1992; scikit-learn (BSD-3-Clause).
    """

    name: ClassVar[str] = "stacking"
    citation: ClassVar[str] = (
        SCIKIT_LEARN
        + """
        @article{wolpert1992stacked,
          author = {Wolpert, David H.},
          title = {Stacked Generalization},
          journal = {Neural Networks},
          volume = {5},
          number = {2},
          pages = {241--259},
          year = {1992},
          doi = {10.1016/S0893-6080(05)80023-1},
        }
    """
    )
    learns: ClassVar[bool] = True

    c: float = Field(default=1.0, gt=0, description="Inverse of the L2 penalty.")
    folds: int = Field(default=5, ge=2, description="Parts that training samples are decided in.")

    def decide(self, votes: Votes) -> Decision:
        """Return the most probable class; raises RunError without two classes to learn from."""
        labels = votes.labels
        known = np.flatnonzero(labels >= 0) if labels is not None else np.arange(0)
        if labels is None or len(np.unique(labels[known])) < 2:
            raise RunError(
                "ensemble 'stacking': found fewer than two classes of training samples to learn "
                "from; label more, or take another ensemble"
            )
        logits = _logits(votes)
        inputs = logits.transpose(1, 0, 2).reshape(logits.shape[1], -1)  # (samples, inputs)
        table = np.zeros(logits.shape[1:], np.float32)
        others = np.setdiff1d(np.arange(len(inputs)), known)
        parts = self._parts(labels, known)
        for learnt, decided in [(known, others), *parts]:
            if len(decided):
                self._predict(inputs, labels, learnt, decided, table)
        return _decision(table.argmax(axis=1), votes, table)

    def _parts(self, labels: IntArray, known: IntArray) -> list[tuple[IntArray, IntArray]]:
        """Return what is learnt from and what is decided, so that every known sample is once."""
        from sklearn.model_selection import KFold, StratifiedKFold

        largest = int(np.bincount(labels[known]).max())
        count = min(self.folds, len(known))
        kind = StratifiedKFold if largest >= count else KFold
        with warnings.catch_warnings():
            # A class with fewer samples than folds is legitimate.
            warnings.simplefilter("ignore", UserWarning)
            parts = list(kind(count, shuffle=True, random_state=0).split(known, labels[known]))
        return [(known[learnt], known[decided]) for learnt, decided in parts]

    def _predict(
        self,
        inputs: FloatArray,
        labels: IntArray,
        learnt: IntArray,
        decided: IntArray,
        table: FloatArray,
    ) -> None:
        """Fill the rows of `table` that are decided from those that are learnt from."""
        from sklearn.linear_model import LogisticRegression

        seen = np.unique(labels[learnt])
        if len(seen) == 1:
            table[decided, seen[0]] = 1.0
            return
        model = LogisticRegression(C=self.c, max_iter=1000).fit(inputs[learnt], labels[learnt])
        table[np.ix_(decided, seen)] = model.predict_proba(inputs[decided])


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


def _by_name(votes: Votes) -> FloatArray:
    # In the order of the names: float addition would otherwise see the order of branches.
    by_name: FloatArray = votes.probabilities[np.argsort(np.array(votes.names))]
    return by_name  # (branches, samples, classes)


def _mean(votes: Votes) -> FloatArray:
    mean: FloatArray = _by_name(votes).mean(axis=0, dtype=np.float32)
    return mean  # (samples, classes)


def _logits(votes: Votes) -> FloatArray:
    logits: FloatArray = np.log(np.maximum(_by_name(votes), np.float32(1e-9)))
    return logits  # (branches, samples, classes)


def _decision(labels: IntArray, votes: Votes, table: FloatArray | None = None) -> Decision:
    ballots = votes.probabilities.argmax(axis=2)
    support = (ballots == labels).mean(axis=0, dtype=np.float32)
    return Decision(labels.astype(np.int64), _mean(votes) if table is None else table, support)


@hookimpl
def ensembles() -> list[type[Ensemble]]:
    """Return the built-in ensembles."""
    return [RankMode, MeanProbability, MeanLogit, Majority, Stacking]
