"""Branches: folds, training, one probability table each."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.components import Features, IntArray, Labelled, Weights
from mercore.errors import PluginError, RunError
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
        return trainable(self.samples, self.labels)

    def complete(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return ``(samples,)``: whether all the named features are there."""
        whole: NDArray[np.bool_] = np.all([self.present[name] for name in names], axis=0)
        return whole

    def filled(self, means: Features, index: NDArray[np.bool_]) -> Features:
        """Return the features of some samples, the mean in place of what one lacks."""
        return {
            name: np.where(self.present[name][index, None], self.features[name][index], mean)
            for name, mean in means.items()
        }

    def rows(self, names: Sequence[str], index: NDArray[np.bool_]) -> Features:
        """Return the named features of some samples."""
        return {name: self.features[name][index] for name in names}


@dataclass(frozen=True, eq=False)
class Trained:
    """A branch after cross-validation."""

    weights: tuple[Weights, ...]
    """One for each fold."""
    means: tuple[Features, ...]
    """One for each fold: ``(1, dim)`` a feature, which stands in for what a sample lacks."""
    probabilities: FloatArray
    """``(samples, classes)``: out-of-fold where trained on, the mean of the folds elsewhere."""
    fold_waf: tuple[float, ...]
    filled: int
    """Samples predicted with the training mean in place of a feature they lack."""
    seconds: float


def trainable(samples: Sequence[Sample], labels: IntArray) -> NDArray[np.bool_]:
    """Return ``(samples,)``: labelled samples of the train split."""
    mask: NDArray[np.bool_] = np.array([s.split == TRAIN for s in samples]) & (labels >= 0)
    return mask


def label_indices(manifest: Manifest, classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)`` class indices, -1 where there is no label."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(sample.label or "", -1) for sample in manifest.samples], np.int64)


def dataset(pipeline: Pipeline, manifest: Manifest, store: Store) -> Dataset:
    """Return the features of all branches; raises RunError naming one that is not extracted."""
    features: dict[str, FloatArray] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    for name in pipeline.used:
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


def check_trainable(labels: IntArray, folds: int, classes: Sequence[str]) -> None:
    """Raise RunError unless the labels of the training samples allow so many folds."""
    sizes = np.bincount(labels, minlength=len(classes))
    found = np.flatnonzero(sizes).tolist()
    count = int(sizes.sum())
    if count < folds or len(found) < 2:
        names = ", ".join(classes[index] for index in found) or "none"
        raise RunError(
            f"{count} labelled train samples of the classes {names}: "
            f"{folds} folds need at least {folds} samples and two classes"
        )
    if sizes.max() < folds:
        raise RunError(
            f"the largest class, {classes[int(sizes.argmax())]!r}, has {sizes.max()} train "
            f"samples, too few for {folds} folds; set 'folds: {max(2, sizes.max())}'"
        )


def assign_folds(data: Dataset, folds: int, seed: int, classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)``: the stratified fold of each training sample, -1 for the others.

    The order of the manifest does not matter: samples are taken in the order of their ids.
    Raises RunError when there are fewer training samples than folds, or only one class.
    """
    from sklearn.model_selection import StratifiedKFold

    order = np.array(sorted(np.flatnonzero(data.trainable), key=lambda i: data.samples[i].id))
    check_trainable(data.labels[data.trainable], folds, classes)
    assigned = np.full(len(data.samples), -1, np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is legitimate: it is absent from some folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(splitter.split(order, data.labels[order]))
    for number, (_, valid) in enumerate(parts):
        assigned[order[valid]] = number
    return assigned


def train(
    branch: BranchNode, data: Dataset, folds: IntArray, *, classes: int, device: str, seed: int
) -> Trained:
    """Return the branch cross-validated: one fit a fold, each fold validated on its own part.

    Samples that lack a feature are not trained on; they are predicted with its mean over the
    fold's training samples in its place.
    """
    began = time.perf_counter()
    names = branch.features
    complete = data.complete(names)
    probabilities = np.zeros((len(data.samples), classes), np.float32)
    weights, means, scores = [], [], []
    count = int(folds.max()) + 1
    for fold in range(count):
        fitted = (folds >= 0) & (folds != fold) & complete
        held_out = folds == fold
        valid = held_out & complete
        weights.append(_fit(branch, data, fitted, valid, classes, device, seed + fold))
        means.append({name: data.features[name][fitted].mean(0, keepdims=True) for name in names})
        predict = branch.fusion.load(weights[-1], device)
        for rows, share in ((held_out, 1.0), (folds < 0, 1.0 / count)):
            if rows.any():
                table = predict(data.filled(means[-1], rows))
                probabilities[rows] += share * checked(table, int(rows.sum()), classes, branch)
        scores.append(_score(data, probabilities, valid, classes))
    filled = int((~complete).sum())
    seconds = time.perf_counter() - began
    return Trained(tuple(weights), tuple(means), probabilities, tuple(scores), filled, seconds)


def checked(table: FloatArray, samples: int, classes: int, branch: BranchNode) -> FloatArray:
    """Return a fusion's probabilities; raises PluginError when they are none."""
    problem = ""
    if table.shape != (samples, classes):
        problem = f"shape {table.shape}, expected {(samples, classes)}"
    elif not np.isfinite(table).all():
        problem = "NaN or infinite probabilities"
    elif np.abs(table.sum(axis=1) - 1).max() > 1e-3 or table.min() < 0:
        problem = "rows that are no probabilities: they must be >= 0 and sum to 1"
    if problem:
        raise PluginError(f"branch {branch.name!r}: fusion {branch.fusion.name!r} gave {problem}")
    return table


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
        return float("nan")
    return waf(data.labels[rows], probabilities[rows].argmax(axis=1), classes)
