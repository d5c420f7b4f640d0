"""What a run produced: the types that extraction, training and voting hand to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from mercore.components import Decision, IntArray, Votes
from mercore.media import FloatArray
from mercore.mining import PseudoLabels


@dataclass(frozen=True, eq=False)
class BranchResult:
    """What one branch predicted."""

    name: str
    features: tuple[str, ...]
    fusion: str
    options: Mapping[str, JsonValue]
    probabilities: FloatArray
    """``(samples, classes)``: out-of-fold for training samples, mean of the folds for others."""
    waf: float
    """Of all training samples, out of fold: what the ensemble ranks by."""
    fold_waf: tuple[float, ...]
    filled: int
    """How many samples lacked a feature and were predicted with its mean in its place."""
    seconds: float

    @property
    def labels(self) -> IntArray:
        """``(samples,)``: the most probable class of each."""
        labels: IntArray = self.probabilities.argmax(axis=1).astype(np.int64)
        return labels


@dataclass(frozen=True, eq=False)
class Round:
    """The branches as one round of data mining trained them; the first has no pseudo-labels."""

    pseudo: PseudoLabels
    """What was accepted up to this round, of which every branch was trained on a share."""
    results: list[BranchResult]


def votes(branches: Sequence[BranchResult], labels: IntArray | None = None) -> Votes:
    """Return the predictions of the branches, as an ensemble takes them.

    `labels` are those of training samples, -1 elsewhere.
    """
    return Votes(
        tuple(branch.name for branch in branches),
        np.stack([branch.probabilities for branch in branches]),
        np.array([branch.waf for branch in branches], np.float32),
        labels,
    )


FASTER: Mapping[str, str] = {
    "decode": "more --threads, or smaller videos",
    "encode": "a GPU, or --devices for several or for more processes",
    "write": "larger batches (--batch), or a store on a faster disk",
}
"""What makes each part of an extraction faster."""


@dataclass(frozen=True)
class FeatureResult:
    """What the extraction of one feature or stream took and gave."""

    name: str
    uses: str
    kind: str
    """``"feature"`` or ``"stream"``."""
    fingerprint: str
    dim: int | None
    samples: int
    failed: tuple[tuple[str, str], ...]
    """``(sample id, reason)`` pairs."""
    seconds: float
    """Wall time of all runs that extracted some of it."""
    decode: float
    """Seconds of decoding in all threads, beside encoding: the three may add up to more."""
    encode: float
    write: float
    slowest: str
    """What to make faster, by the longest of those runs: a key of ``FASTER``, or ``""``."""
    records: Mapping[str, JsonValue]
    """A summary of the records, such as how many samples have a warning."""


@dataclass(frozen=True)
class ManifestResult:
    """Where the samples came from."""

    path: str
    rows: int
    notes: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Result:
    """All that a run produced, with every per-sample value in the same order."""

    title: str
    created: str
    """ISO 8601."""
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: IntArray
    """``(samples,)`` class indices, -1 where unlabelled."""
    branches: tuple[BranchResult, ...]
    ensemble: str
    decision: Decision
    mining: tuple[Mapping[str, JsonValue], ...]
    """A row a round of data mining, as ``rounds.mined`` says; empty without any."""
    features: tuple[FeatureResult, ...]
    registry: str
    """The text of registry.yaml."""
    manifest: ManifestResult
    versions: Mapping[str, str]
    warnings: tuple[str, ...]
    media: tuple[Mapping[str, str], ...]
    """Of each sample, as ``Sample.media`` has them."""
    folder: str
    """The absolute path of the folder that the report is written to."""
    ablation: Mapping[str, JsonValue] | None
    """The content of ablation.json, where it is up to date."""
