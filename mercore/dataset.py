"""The features of samples as matrices: what fusions are trained on and predict from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """``(samples, dim)`` each, or ``(samples, frames, dim)`` as ``Fusion.most_frames`` says; a row
    of zeros where a sample has no such feature."""
    present: Mapping[str, NDArray[np.bool_]]
    """``(samples,)`` each: whether the sample has the feature."""

    def part(self, mask: NDArray[np.bool_]) -> Dataset:
        """Return some of the samples."""
        return Dataset(
            tuple(sample for sample, chosen in zip(self.samples, mask, strict=True) if chosen),
            self.labels[mask],
            {name: matrix[mask] for name, matrix in self.features.items()},
            {name: there[mask] for name, there in self.present.items()},
        )

    def complete(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return ``(samples,)``: whether all the named features are there."""
        whole: NDArray[np.bool_] = np.all([self.present[name] for name in names], axis=0)
        return whole

    def some(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return ``(samples,)``: whether any of the named features is there."""
        there: NDArray[np.bool_] = np.any([self.present[name] for name in names], axis=0)
        return there

    def with_gaps(self, names: Sequence[str]) -> Features:
        """Return the named features of all samples, NaN where a sample lacks one."""
        return {name: self._with_gaps(name) for name in names}

    def filled(self, means: Features, rows: IntArray) -> Features:
        """Return the features of some samples, means ``(1, ...)`` in place of what one lacks."""
        return {name: self._filled(name, mean, rows) for name, mean in means.items()}

    def _with_gaps(self, name: str) -> FloatArray:
        present, table = self.present[name], self.features[name]
        if present.all():
            return table
        gaps = table.copy()
        gaps[~present] = np.nan
        return gaps

    def _filled(self, name: str, mean: FloatArray, rows: IntArray) -> FloatArray:
        there = self.present[name][rows]
        if there.all():
            return self.features[name][rows]
        table = np.repeat(mean, len(rows), axis=0)
        if there.any():  # without any, how wide it is may not be known
            table[there] = self.features[name][rows[there]]
        return table


def label_indices(samples: Sequence[Sample], classes: Sequence[str]) -> IntArray:
    """Return ``(samples,)`` class indices, -1 where there is no label."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(sample.label or "", -1) for sample in samples], np.int64)


def trainable(samples: Sequence[Sample], labels: IntArray) -> NDArray[np.bool_]:
    """Return ``(samples,)``: labelled samples of the train split."""
    mask: NDArray[np.bool_] = np.array([s.split == TRAIN for s in samples]) & (labels >= 0)
    return mask


def read_dataset(
    pipeline: Pipeline,
    samples: Sequence[Sample],
    store: Store,
    names: Iterable[str],
    frames: int | None = None,
) -> Dataset:
    """Return the named features; raises RunError naming one that is not extracted.

    With `frames` they are sequences, shortened to so many.
    """
    features: dict[str, FloatArray] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    for name in names:
        features[name], present[name] = _matrix(pipeline.features[name], samples, store, frames)
    labels = label_indices(samples, pipeline.classes)
    return Dataset(tuple(samples), labels, features, present)


def _matrix(
    node: Node, samples: Sequence[Sample], store: Store, frames: int | None
) -> tuple[FloatArray, NDArray[np.bool_]]:
    kind = "features" if frames is None else "frames"
    collection = store.collection(kind, node.name, node.fingerprint)
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
    ids = [samples[row].id for row in np.flatnonzero(present).tolist()]
    some = collection.matrix(ids) if frames is None else _sequences(collection, ids, frames)
    matrix = np.zeros((len(samples), *some.shape[1:]), np.float32)
    matrix[present] = some
    return matrix, present


def _sequences(collection: Collection, ids: Sequence[str], frames: int) -> FloatArray:
    """Return ``(samples, frames, dim)``, read in parts, so that whole sequences never pile up."""
    table = np.full((len(ids), frames, collection.dim or 0), np.nan, np.float32)
    for start in range(0, len(ids), 256):
        part = ids[start : start + 256]
        for row, sequence in enumerate(collection.sequences(part), start):
            short = shortened(sequence, frames)
            table[row, : len(short)] = short
    return table


def shortened(sequence: NDArray[np.generic], frames: int) -> FloatArray:
    """Return ``(frames, dim)`` float32: the means of neighbours, as many each within one.

    A sequence that is no longer than that is returned as it is.
    """
    count, values = len(sequence), sequence.astype(np.float32)
    if count <= frames:
        return values
    starts = np.arange(frames) * count // frames
    sizes = np.diff(np.append(starts, count)).astype(np.float32)
    sums: FloatArray = np.add.reduceat(values, starts, axis=0)
    return sums / sizes[:, None]


def feature_entries(pipeline: Pipeline, store: Store) -> dict[str, Mapping[str, Entry]]:
    """Return what the store knows of each sample, for each feature of the branches."""
    nodes = {name: pipeline.features[name] for name in pipeline.used}
    found = {
        name: store.collection("features", name, node.fingerprint) for name, node in nodes.items()
    }
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
