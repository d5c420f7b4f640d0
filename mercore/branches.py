"""Branches: folds, training, one probability table each."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mercore.components import Features, IntArray, Labelled, Part, Weights
from mercore.dataset import Dataset, trainable
from mercore.errors import PluginError, RunError
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.metrics import waf
from mercore.pipeline import BranchNode

CHUNK = 8192
"""Samples predicted at a time, which bounds the memory of a prediction."""


@dataclass(frozen=True, eq=False)
class Fold:
    """What one fold of the cross-validation has learnt."""

    weights: Weights
    means: Features
    """``(1, dim)`` a feature, which stands in for what a sample lacks; of sequences one frame."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A branch after cross-validation."""

    folds: tuple[Fold, ...]
    probabilities: FloatArray
    """``(samples, classes)``: out-of-fold where trained on, the mean of the folds elsewhere."""
    waf: float
    """Of all training samples, each predicted by the fold that did not train on it."""
    fold_waf: tuple[float, ...]
    filled: int
    """Samples predicted with the training mean in place of a feature they lack."""
    seconds: float


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
        most = int(sizes.max())
        cure = f"set 'folds: {most}'" if most > 1 else "label two samples of a class or more"
        raise RunError(
            f"the largest class, {classes[int(sizes.argmax())]!r}, has {most} train samples, too "
            f"few for {folds} folds; {cure}"
        )


def check_present(data: Dataset) -> None:
    """Raise RunError when a feature has no values at all."""
    for name, present in data.present.items():
        if not present.any():
            raise RunError(f"feature {name!r} failed for every sample; `mer status` shows why")


def assign_folds(
    samples: Sequence[Sample], labels: IntArray, folds: int, seed: int, classes: Sequence[str]
) -> IntArray:
    """Return ``(samples,)``: the stratified fold of each training sample, -1 for the others.

    The order of the manifest does not matter: samples are taken in the order of their ids.
    Raises RunError when there are fewer training samples than folds, or only one class.
    """
    from sklearn.model_selection import StratifiedKFold

    train = trainable(samples, labels)
    order = np.array(sorted(np.flatnonzero(train).tolist(), key=lambda row: samples[row].id))
    check_trainable(labels[train], folds, classes)
    assigned = np.full(len(samples), -1, np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is legitimate: it is absent from some folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(splitter.split(order, labels[order]))
    for number, (_, valid) in enumerate(parts):
        assigned[order[valid]] = number
    return assigned


def train(
    branch: BranchNode,
    data: Dataset,
    folds: IntArray,
    *,
    classes: int,
    device: str,
    seed: int,
    pseudo: IntArray | None = None,
    start: Sequence[Weights] | None = None,
) -> Trained:
    """Return the branch cross-validated: one fit a fold, each fold validated on its own part.

    Samples that lack a feature are not trained on, and are predicted with its mean over the fold's
    training samples in its place, unless the fusion leaves it out itself. `pseudo` is
    ``(samples,)``: labels of further samples, -1 for none, which every fold is trained on and none
    is validated on. `start` are weights that the folds go on from.
    """
    began = time.perf_counter()
    complete = data.complete(branch.features)
    usable = data.some(branch.features) if branch.fusion.masks_missing else complete
    mined = np.zeros(len(folds), np.bool_) if pseudo is None else (pseudo >= 0) & (folds < 0)
    if pseudo is not None:
        data = replace(data, labels=np.where(mined, pseudo, data.labels))
    count = int(folds.max()) + 1
    parts = [
        Part(
            _some(branch, ((folds >= 0) & (folds != number) | mined) & usable),
            np.flatnonzero((folds == number) & usable),
            seed + number,
            start[number] if start else None,
        )
        for number in range(count)
    ]
    learnt = _fit(branch, data, parts, classes, device)
    probabilities = np.zeros((len(data.samples), classes), np.float32)
    for number, fold in enumerate(learnt):
        rows = (folds == number) | (folds < 0)
        share = np.where(folds[rows] < 0, np.float32(1 / count), np.float32(1))
        table = predict(branch, fold, data, rows, classes=classes, device=device)
        probabilities[rows] += share[:, None] * table
    scores = [_score(data, probabilities, part.valid, classes) for part in parts]
    overall = _score(data, probabilities, np.flatnonzero(folds >= 0), classes)
    filled = int((~complete).sum())
    seconds = time.perf_counter() - began
    return Trained(tuple(learnt), probabilities, overall, tuple(scores), filled, seconds)


def predict(
    branch: BranchNode,
    fold: Fold,
    data: Dataset,
    rows: NDArray[np.bool_],
    *,
    classes: int,
    device: str,
) -> FloatArray:
    """Return the ``(rows, classes)`` probabilities that one fold gives to some samples.

    Raises PluginError when the fusion gives something else than probabilities.
    """
    predicted, indices = branch.fusion.load(fold.weights, device), np.flatnonzero(rows)
    tables = [np.zeros((0, classes), np.float32)]
    for start in range(0, len(indices), CHUNK):
        part = indices[start : start + CHUNK]
        table = predicted(data.filled(fold.means, part))
        problem = problem_of(table, (len(part), classes))
        if problem:
            who = f"branch {branch.name!r}: fusion {branch.fusion.name!r}"
            raise PluginError(f"{who} gave {problem}")
        tables.append(table)
    return np.concatenate(tables)


def problem_of(table: FloatArray, shape: tuple[int, int]) -> str:
    """Return why a table is none of probabilities, or ``""``."""
    if table.shape != shape:
        return f"shape {table.shape}, expected {shape}"
    if not np.isfinite(table).all():
        return "NaN or infinite probabilities"
    if np.abs(table.sum(axis=1) - 1).max() > 1e-3 or table.min() < 0:
        return "rows that are no probabilities: they must be >= 0 and sum to 1"
    return ""


def _some(branch: BranchNode, mask: NDArray[np.bool_]) -> IntArray:
    if not mask.any():
        raise RunError(f"branch {branch.name!r}: no training sample has all of its features")
    return np.flatnonzero(mask)


def _fit(
    branch: BranchNode, data: Dataset, parts: Sequence[Part], classes: int, device: str
) -> list[Fold]:
    labelled = Labelled(data.with_gaps(branch.features), data.labels)
    fitted = branch.fusion.fit_all(labelled, parts, classes=classes, device=device)
    return [
        Fold(weights, _means(branch, data, part.train))
        for weights, part in zip(fitted, parts, strict=True)
    ]


def _means(branch: BranchNode, data: Dataset, rows: IntArray) -> Features:
    return {
        name: _mean(data.features[name], rows, gap=branch.fusion.masks_missing)
        for name in branch.features
    }


def _mean(matrix: FloatArray, rows: IntArray, *, gap: bool) -> FloatArray:
    """Return ``(1, ...)``: what stands in for a missing row of `matrix`; NaN for a gap."""
    mean = np.full((1, *matrix.shape[1:]), np.nan, np.float32)
    if gap:
        return mean
    if matrix.ndim == 2:
        mean[0] = matrix[rows].mean(axis=0)
    else:
        mean[0, 0] = np.nanmean(matrix[rows], axis=(0, 1))
    return mean


def _score(data: Dataset, probabilities: FloatArray, rows: IntArray, classes: int) -> float:
    if not len(rows):
        return float("nan")
    return waf(data.labels[rows], probabilities[rows].argmax(axis=1), classes)
