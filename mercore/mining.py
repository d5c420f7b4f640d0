"""Data mining: labels that the branches agree on become training samples.

Section 2.5 of Ge et al. (2024): n learners vote on the unlabelled samples; a label that enough of
them give is accepted; the accepted samples are divided evenly among the learners, and each is
trained again on the labelled samples and its share. The next round votes on what is left. Shares
add up: what a learner was given in one round stays in its training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.components import IntArray, Votes
from mercore.errors import ManifestError, RegistryError, did_you_mean
from mercore.manifest import Manifest
from mercore.media import FloatArray
from mercore.registry import Mining

Mask = NDArray[np.bool_]


def check_minable(mining: Mining | None, manifest: Manifest) -> None:
    """Raise a MercoreError when the registry declares no mining, or of no sample there is."""
    if mining is None:
        raise RegistryError(
            "the registry declares no mining; add 'mining: {split: unlabelled, rounds: 4}'"
        )
    if mining.split not in manifest.splits:
        hint = did_you_mean(mining.split, manifest.splits)
        raise ManifestError(
            f"{manifest.path}: no sample is in the split {mining.split!r} that is to be "
            f"mined{hint}; has {', '.join(manifest.splits)}"
        )


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What was accepted so far: three ``(samples,)`` int64 arrays in the order of the manifest."""

    labels: IntArray
    """Class indices, -1 where none was accepted."""
    learners: IntArray
    """Which branch is trained on the sample, as an index into the branches; -1 for none."""
    rounds: IntArray
    """The round that accepted it, counted from 1; 0 for none."""

    @classmethod
    def none(cls, samples: int) -> PseudoLabels:
        """Return no label for any of so many samples."""
        nothing = np.full(samples, -1, np.int64)
        return cls(nothing, nothing, np.zeros(samples, np.int64))

    @property
    def last(self) -> int:
        """The round that accepted the newest; 0 where nothing was accepted."""
        return int(self.rounds.max())

    def share(self, learner: int) -> IntArray:
        """Return ``(samples,)``: the labels that one branch is trained on, -1 elsewhere."""
        return np.where(self.learners == learner, self.labels, -1)


def mine(
    votes: Votes,
    ids: Sequence[str],
    unlabelled: Mask,
    before: PseudoLabels,
    options: Mining,
    seed: int,
) -> PseudoLabels | None:
    """Return the pseudo-labels with those of another round, None when no sample is accepted.

    `unlabelled` is ``(samples,)``: the samples that may be mined. Neither the order of the samples
    nor that of the branches decides who is given which.
    """
    labels, confidence = agreed(votes, options.agree)
    accepted = unlabelled & (before.labels < 0) & (labels >= 0)
    accepted &= confidence >= options.confidence
    if options.cap is not None:
        accepted = _most_confident(accepted, labels, confidence, ids, options.cap)
    if not accepted.any():
        return None
    number = before.last + 1
    learners = divide(accepted, labels, ids, votes.names, np.random.default_rng([seed, number]))
    return PseudoLabels(
        np.where(accepted, labels, before.labels),
        np.where(accepted, learners, before.learners),
        np.where(accepted, number, before.rounds),
    )


def agreed(votes: Votes, agree: int) -> tuple[IntArray, FloatArray]:
    """Return the label that at least `agree` branches give each sample, -1 where none is.

    And the mean probability that those branches give it: ``(samples,)`` each. Where two labels
    have as many branches each, neither is agreed on.
    """
    ballots = votes.probabilities.argmax(axis=2)  # (branches, samples)
    given = ballots[:, :, None] == np.arange(votes.probabilities.shape[2])
    counts = given.sum(axis=0)  # (samples, classes)
    most = counts.max(axis=1)
    unique = (counts == most[:, None]).sum(axis=1) == 1
    labels = np.where(unique & (most >= agree), counts.argmax(axis=1), -1)
    sums = np.where(given, votes.probabilities, 0).sum(axis=0)  # (samples, classes)
    confidence = sums[np.arange(len(labels)), labels] / most
    return labels, confidence.astype(np.float32)


def divide(
    accepted: Mask,
    labels: IntArray,
    ids: Sequence[str],
    names: Sequence[str],
    random: np.random.Generator,
) -> IntArray:
    """Return ``(samples,)``: the branch that each accepted sample goes to, -1 elsewhere.

    The samples of each class are shuffled and dealt out in turn, so that the shares of any two
    branches differ by one sample, and by one of each class, at most.
    """
    rows = sorted(np.flatnonzero(accepted).tolist(), key=lambda row: ids[row])
    random.shuffle(rows)
    rows.sort(key=lambda row: int(labels[row]))  # stable: shuffled within a class
    turns = np.argsort(np.array(list(names)))
    learners = np.full(len(ids), -1, np.int64)
    learners[rows] = turns[np.arange(len(rows)) % len(turns)]
    return learners


def _most_confident(
    accepted: Mask, labels: IntArray, confidence: FloatArray, ids: Sequence[str], cap: int
) -> Mask:
    """Return `accepted` with no more than `cap` samples of a class, the most confident."""
    kept = np.zeros_like(accepted)
    for label in np.unique(labels[accepted]).tolist():
        rows = np.flatnonzero(accepted & (labels == label)).tolist()
        rows.sort(key=lambda row: (-confidence[row], ids[row]))
        kept[rows[:cap]] = True
    return kept
