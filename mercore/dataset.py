"""The features of samples as matrices: what fusions are trained on and predict from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mercore.components import Features, IntArray
from mercore.errors import RunError
from mercore.manifest import TRAIN, Sample
from mercore.media import FloatArray
from mercore.pipeline import Node, Pipeline
from mercore.store import Collection, Entry, Store


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with the features of all branches, in one order."""

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

    def rows(self, names: Sequence[str], index: NDArray[np.bool_]) -> Features:
        """Return the named features of some samples."""
        return {name: self.features[name][index] for name in names}

    def filled(self, means: Features, index: NDArray[np.bool_]) -> Features:
        """Return the features of some samples, ``(1, dim)`` means in place of what one lacks."""
        return {name: self._filled(name, mean, index) for name, mean in means.items()}

    def _filled(self, name: str, mean: FloatArray, index: NDArray[np.bool_]) -> FloatArray:
        there = self.present[name] & index
        table = np.repeat(mean, int(index.sum()), axis=0)
        if there.any():
            table[there[index]] = self.features[name][there]
        return table


def label_indices(samples: Sequence[Sample], classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)`` class indices, -1 where there is no label."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(sample.label or "", -1) for sample in samples], np.int64)


def trainable(samples: Sequence[Sample], labels: IntArray) -> NDArray[np.bool_]:
    """Return ``(samples,)``: labelled samples of the train split."""
    mask: NDArray[np.bool_] = np.array([s.split == TRAIN for s in samples]) & (labels >= 0)
    return mask


def read_dataset(pipeline: Pipeline, samples: Sequence[Sample], store: Store) -> Dataset:
    """Return the features of all branches; raises RunError naming one that is not extracted."""
    features: dict[str, FloatArray] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    for name in pipeline.used:
        features[name], present[name] = _matrix(pipeline.features[name], samples, store)
    labels = label_indices(samples, pipeline.classes)
    return Dataset(tuple(samples), labels, features, present)


def _matrix(
    node: Node, samples: Sequence[Sample], store: Store
) -> tuple[FloatArray, NDArray[np.bool_]]:
    collection = _collection(node, store)
    if collection is None:
        raise RunError(f"feature {node.name!r} is not extracted yet; run `mer extract`")
    entries = collection.entries()
    missing = [sample.id for sample in samples if sample.id not in entries]
    if missing:
        raise RunError(
            f"feature {node.name!r} lacks {len(missing)} of {len(samples)} samples, the first is "
            f"{missing[0]!r}; run `mer extract`"
        )
    present = np.array([entries[sample.id].failed is None for sample in samples])
    some = collection.matrix([samples[row].id for row in np.flatnonzero(present).tolist()])
    matrix = np.zeros((len(samples), some.shape[1]), np.float32)
    matrix[present] = some
    return matrix, present


def feature_entries(pipeline: Pipeline, store: Store) -> dict[str, Mapping[str, Entry]]:
    """Return what the store knows of each sample, for each feature of the branches."""
    found = {name: _collection(pipeline.features[name], store) for name in pipeline.used}
    return {name: part.entries() if part else {} for name, part in found.items()}


def lacking(
    samples: Sequence[Sample], features: Mapping[str, Mapping[str, Entry]]
) -> list[tuple[str, ...]]:
    """Return, for each sample, the features that it has no values of."""
    return [
        tuple(
            name
            for name, entries in features.items()
            if sample.id not in entries or entries[sample.id].failed is not None
        )
        for sample in samples
    ]


def _collection(node: Node, store: Store) -> Collection | None:
    return store.collection("features", node.name, node.fingerprint)
