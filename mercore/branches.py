"""Branches: folds, training, one probability table each."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.components import Features, IntArray, Labelled, Weights
from mercore.errors import RunError
from mercore.manifest import TRAIN, Manifest, Sample
from mercore.media import FloatArray
from mercore.metrics import waf
from mercore.pipeline import BranchNode, Pipeline
from mercore.store import Collection, Store


@dataclass(frozen=True, eq=False)
class Dataset:
    """The samples of a manifest with their features, rows in the manifest's order."""

    samples: tuple[Sample, ...]
    labels: IntArray
    """``(samples,)`` class indices, -1 where there is no label."""
    features: Features
    """``(samples, dim)`` each; a row of zeros where a sample has no such feature."""
    present: Mapping[str, NDArray[np.bool_]]
    """``(samples,)`` each: whether the sample has the feature."""

    @property
    def trainable(self) -> NDArray[np.bool_]:
        """``(samples,)``: labelled samples of the train split."""
        train = [sample.split == TRAIN for sample in self.samples]
        labelled: NDArray[np.bool_] = np.array(train) & (self.labels >= 0)
        return labelled

    def complete(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return ``(samples,)``: whether all the named features are there."""
        whole: NDArray[np.bool_] = np.all([self.present[name] for name in names], axis=0)
        return whole

    def rows(self, names: Sequence[str], index: NDArray[np.bool_]) -> Features:
        """Return the named features of some samples."""
        return {name: self.features[name][index] for name in names}


@dataclass(frozen=True, eq=False)
class Trained:
    """A branch after cross-validation."""

    weights: tuple[Weights, ...]
    """One for each fold."""
    probabilities: FloatArray
    """``(samples, classes)``: out-of-fold where trained on, the mean of the folds elsewhere."""
    fold_waf: tuple[float, ...]
    zero_filled: int
    """Samples predicted with zeros in place of a feature they lack."""
    seconds: float


def label_indices(manifest: Manifest, classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)`` class indices, -1 where there is no label."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(sample.label or "", -1) for sample in manifest.samples], np.int64)


def dataset(pipeline: Pipeline, manifest: Manifest, store: Store) -> Dataset:
    """Return the features of all branches; raises RunError naming one that is not extracted."""
    names = {name for branch in pipeline.branches.values() for name in branch.features}
    features: dict[str, FloatArray] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    for name in sorted(names):
        node = pipeline.features[name]
        collection = store.collection("features", name, node.fingerprint)
        if collection is None:
            raise RunError(f"feature {name!r} is not extracted yet; run `mer extract`")
        features[name], present[name] = _matrix(name, collection, manifest.samples)
    labels = label_indices(manifest, pipeline.classes)
    return Dataset(manifest.samples, labels, features, present)


def _matrix(
    name: str, collection: Collection, samples: Sequence[Sample]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    entries = collection.entries()
    missing = [sample.id for sample in samples if sample.id not in entries]
    if missing:
        raise RunError(
            f"feature {name!r} lacks {len(missing)} of {len(samples)} samples, the first is "
            f"{missing[0]!r}; run `mer extract`"
        )
    present = np.array([entries[sample.id].failed is None for sample in samples])
    if not present.any():
        raise RunError(f"feature {name!r} failed for every sample; `mer status` shows why")
    some = collection.matrix([samples[row].id for row in np.flatnonzero(present).tolist()])
    matrix = np.zeros((len(samples), some.shape[1]), np.float32)
    matrix[present] = some
    return matrix, present


def assign_folds(data: Dataset, folds: int, seed: int, classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)``: the stratified fold of each training sample, -1 for the others.

    The order of the manifest does not matter: samples are taken in the order of their ids.
    Raises RunError when there are fewer training samples than folds, or only one class.
    """
    from sklearn.model_selection import StratifiedKFold

    order = np.array(sorted(np.flatnonzero(data.trainable), key=lambda i: data.samples[i].id))
    found = sorted(set(data.labels[order].tolist())) if len(order) else []
    if len(order) < folds or len(found) < 2:
        names = ", ".join(classes[index] for index in found) or "none"
        raise RunError(
            f"{len(order)} labelled train samples of the classes {names}: "
            f"{folds} folds need at least {folds} samples and two classes"
        )
    assigned = np.full(len(data.samples), -1, np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is legitimate: it is absent from some folds.
        warnings.simplefilter("ignore", UserWarning)
        try:
            parts = list(splitter.split(order, data.labels[order]))
        except ValueError as error:
            raise RunError(f"cannot make {folds} stratified folds: {error}") from error
    for number, (_, valid) in enumerate(parts):
        assigned[order[valid]] = number
    return assigned


def train(
    branch: BranchNode, data: Dataset, folds: IntArray, *, classes: int, device: str, seed: int
) -> Trained:
    """Return the branch cross-validated: one fit a fold, each fold validated on its own part.

    Samples that lack a feature are not trained on; they are predicted with zeros in its place.
    """
    began = time.perf_counter()
    names = branch.features
    complete = data.complete(names)
    probabilities = np.zeros((len(data.samples), classes), np.float32)
    weights, scores = [], []
    count = int(folds.max()) + 1
    for fold in range(count):
        fitted = (folds >= 0) & (folds != fold) & complete
        held_out = folds == fold
        valid = held_out & complete
        weights.append(_fit(branch, data, fitted, valid, classes, device, seed + fold))
        predict = branch.fusion.load(weights[-1], device)
        for rows, share in ((held_out, 1.0), (folds < 0, 1.0 / count)):
            if rows.any():
                probabilities[rows] += share * predict(data.rows(names, rows))
        scores.append(_score(data, probabilities, valid, classes))
    zero_filled = int((~complete).sum())
    seconds = time.perf_counter() - began
    return Trained(tuple(weights), probabilities, tuple(scores), zero_filled, seconds)


def _fit(
    branch: BranchNode,
    data: Dataset,
    fitted: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    classes: int,
    device: str,
    seed: int,
) -> Weights:
    if not fitted.any():
        raise RunError(f"branch {branch.name!r}: no training sample has all of its features")
    train, valid = (
        Labelled(data.rows(branch.features, rows), data.labels[rows]) for rows in (fitted, held_out)
    )
    return branch.fusion.fit(train, valid, classes=classes, device=device, seed=seed)


def _score(
    data: Dataset, probabilities: FloatArray, rows: NDArray[np.bool_], classes: int
) -> float:
    if not rows.any():
        return 0.0
    return waf(data.labels[rows], probabilities[rows].argmax(axis=1), classes)
