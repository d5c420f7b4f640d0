"""A fusion that breaks no rule, and others that break one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mercore import Features, Fusion, Labelled, Part, Predict, Weights
from mercore.media import FloatArray

CHANCE = np.random.default_rng()
KEPT: list[Weights] = []


class Centroid(Fusion):
    """Softmax of the negative distance to the mean of each class."""

    name: ClassVar[str] = "centroid_misfit"

    def table(self, features: Features) -> FloatArray:
        return np.concatenate([features[name] for name in sorted(features)], axis=1)

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        x = self.table(train.features)
        centres = np.full((classes, x.shape[1]), 1e3, np.float32)
        for label in set(train.labels.tolist()):
            centres[label] = x[train.labels == label].mean(axis=0)
        return {"centres": centres}

    def scores(self, x: FloatArray, weights: Weights) -> FloatArray:
        centres = weights["centres"].astype(np.float32)
        distance = np.linalg.norm(x[:, None] - centres, axis=2)
        odds = np.exp(distance.min(axis=1, keepdims=True) - distance)
        table: FloatArray = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return table

    def load(self, weights: Weights, device: str) -> Predict:
        return lambda features: self.scores(self.table(features), weights)


class Unseeded(Centroid):
    name: ClassVar[str] = "unseeded"

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        weights = super().fit(train, valid, classes=classes, device=device, seed=seed)
        centres = weights["centres"].astype(np.float32)
        noise = CHANCE.standard_normal(centres.shape).astype(np.float32)
        return {"centres": centres + np.float32(1e-4) * noise}


class Doubled(Centroid):
    name: ClassVar[str] = "doubled"

    def scores(self, x: FloatArray, weights: Weights) -> FloatArray:
        return 2 * super().scores(x, weights)


class Ignorant(Centroid):
    name: ClassVar[str] = "ignorant"

    def scores(self, x: FloatArray, weights: Weights) -> FloatArray:
        return np.full((len(x), len(weights["centres"])), 1 / 3, np.float32)


class BatchCentred(Centroid):
    name: ClassVar[str] = "batch_centred"

    def scores(self, x: FloatArray, weights: Weights) -> FloatArray:
        return super().scores(x - np.float32(0.1) * x.mean(axis=0), weights)


class MonteCarlo(Centroid):
    name: ClassVar[str] = "monte_carlo"

    def scores(self, x: FloatArray, weights: Weights) -> FloatArray:
        table = super().scores(x, weights)
        return table + CHANCE.uniform(0, 1e-6, table.shape).astype(np.float32)


class ByPosition(Centroid):
    name: ClassVar[str] = "by_position"

    def table(self, features: Features) -> FloatArray:
        return np.concatenate(list(features.values()), axis=1)


class CentresInPlace(Centroid):
    name: ClassVar[str] = "centres_in_place"

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        for x in train.features.values():
            x -= np.float32(0.01)
        return super().fit(train, valid, classes=classes, device=device, seed=seed)


class Narrow(Centroid):
    name: ClassVar[str] = "narrow"

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        seen, labels = np.unique(train.labels, return_inverse=True)
        known = Labelled(train.features, labels)
        return super().fit(known, valid, classes=len(seen), device=device, seed=seed)


class Pairs(Centroid):
    name: ClassVar[str] = "pairs"

    def table(self, features: Features) -> FloatArray:
        first, second, *_ = sorted(features)
        assert features[first].shape != features[second].shape
        return super().table(features)


class NeedsValid(Centroid):
    name: ClassVar[str] = "needs_valid"

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        valid.labels.max()
        return super().fit(train, valid, classes=classes, device=device, seed=seed)


class Unstorable(Centroid):
    name: ClassVar[str] = "unstorable"

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        weights = super().fit(train, valid, classes=classes, device=device, seed=seed)
        return {**weights, "names": np.array(sorted(train.features))}


class Shares(Centroid):
    name: ClassVar[str] = "shares"

    def fit_all(
        self, data: Labelled, parts: Sequence[Part], *, classes: int, device: str
    ) -> list[Weights]:
        shared = super().fit_all(data, parts[:1], classes=classes, device=device)
        return shared * len(parts)


class Blind(Centroid):
    name: ClassVar[str] = "blind"

    @property
    def masks_missing(self) -> bool:
        return True


class KeepsAll(Centroid):
    name: ClassVar[str] = "keeps_all"

    def load(self, weights: Weights, device: str) -> Predict:
        KEPT.append(weights)
        return super().load(weights, device)


class TwoDevices(Centroid):
    name: ClassVar[str] = "two_devices"

    def load(self, weights: Weights, device: str) -> Predict:
        {"cpu": 0, "cuda": 1}[device]
        return super().load(weights, device)
