from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from mercore.branches import assign_folds, train
from mercore.components import Features, IntArray, Labelled, Part, Predict, Weights
from mercore.dataset import Dataset
from mercore.errors import PluginError, RunError
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.pipeline import BranchNode
from mercore_toys import Centroid

CLASSES = ("sad", "happy")


def dataset(count: int = 40, *, far: float = 50.0) -> Dataset:
    """Return samples whose first feature tells the class and lies far from zero."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    samples = tuple(
        Sample(f"s{i:03d}", "train" if i < count * 3 // 4 else "test", None, {})
        for i in range(count)
    )
    one = (far + labels[:, None] + 0.1 * random.normal(size=(count, 3))).astype(np.float32)
    two = (far + labels[:, None] + 0.1 * random.normal(size=(count, 2))).astype(np.float32)
    present = {name: np.ones(count, np.bool_) for name in ("one", "two")}
    return Dataset(samples, labels.astype(np.int64), {"one": one, "two": two}, present)


def folds_of(data: Dataset) -> IntArray:
    return assign_folds(data.samples, data.labels, 5, 0, CLASSES)


def branch(fusion: Centroid | None = None) -> BranchNode:
    return BranchNode("both", ("one", "two"), fusion or Centroid(), "mercore-toys 0.1.0")


def lacking(data: Dataset, name: str, rows: list[int]) -> Dataset:
    present = {key: there.copy() for key, there in data.present.items()}
    features = {key: matrix.copy() for key, matrix in data.features.items()}
    present[name][rows] = False
    features[name][rows] = 0
    return replace(data, features=features, present=present)


def test_folds_are_stratified_and_do_not_depend_on_the_order_of_the_manifest() -> None:
    data = dataset()
    folds = folds_of(data)
    assert set(folds[:30].tolist()) == set(range(5))
    assert set(folds[30:].tolist()) == {-1}
    for fold in range(5):
        assert data.labels[folds == fold].tolist().count(0) == 3
    order = np.random.default_rng(1).permutation(40)
    shuffled = Dataset(
        tuple(data.samples[i] for i in order), data.labels[order], data.features, data.present
    )
    assert folds_of(shuffled).tolist() == folds[order].tolist()


def test_a_class_with_fewer_samples_than_folds_is_no_error() -> None:
    data = dataset()
    labels = np.zeros(40, np.int64)
    labels[:2] = 1
    assert set(folds_of(replace(data, labels=labels))[:30].tolist()) == set(range(5))


def test_one_class_cannot_be_trained_on() -> None:
    data = replace(dataset(), labels=np.zeros(40, np.int64))
    with pytest.raises(RunError, match="30 labelled train samples of the classes sad"):
        folds_of(data)


def test_a_sample_that_lacks_a_feature_is_left_out_of_training_and_predicted_with_its_mean() -> (
    None
):
    data = dataset()
    gone = [0, 1, 30, 31]
    folds = folds_of(data)
    options = {"classes": 2, "device": "cpu", "seed": 0}
    trained = train(branch(), lacking(data, "one", gone), folds, **options)  # type: ignore[arg-type]
    assert trained.filled == 4
    # The other feature still tells the class: a zero, far from all samples, would drown it.
    assert trained.probabilities[gone].argmax(axis=1).tolist() == [0, 1, 0, 1]
    fitted = (folds >= 0) & (folds != 0)
    fitted[gone] = False
    expected = data.features["one"][fitted].mean(axis=0)
    assert trained.folds[0].means["one"] == pytest.approx(expected[None])


class Broken(Centroid):
    name: ClassVar[str] = "broken"
    gives: str = "nan"

    def load(self, weights: Weights, device: str) -> Predict:
        def predict(features: Features) -> FloatArray:
            count = len(features["one"])
            if self.gives == "nan":
                return np.full((count, 2), np.nan, np.float32)
            if self.gives == "logits":
                return np.full((count, 2), 3.0, np.float32)
            return np.ones((count, 1), np.float32)

        return predict


@pytest.mark.parametrize(
    ("gives", "message"),
    [("nan", "NaN or infinite"), ("logits", "no probabilities"), ("narrow", r"shape \(16, 1\)")],
)
def test_what_are_no_probabilities_is_refused(gives: str, message: str) -> None:
    data = dataset()
    folds = folds_of(data)
    with pytest.raises(PluginError, match=f"branch 'both': fusion 'broken' gave .*{message}"):
        train(branch(Broken(gives=gives)), data, folds, classes=2, device="cpu", seed=0)


def test_a_fusion_that_masks_is_given_nan_and_trained_on_what_there_is() -> None:
    gone = [0, 1, 30, 31]
    data = lacking(dataset(), "one", gone)
    seen: list[Labelled] = []

    class Masked(Centroid):
        name: ClassVar[str] = "masked"

        @property
        def masks_missing(self) -> bool:
            return True

        def fit_all(
            self, data: Labelled, parts: Sequence[Part], *, classes: int, device: str
        ) -> list[Weights]:
            seen.extend(data.at(part.train) for part in parts)
            features = {name: np.nan_to_num(x, nan=50.5) for name, x in data.features.items()}
            filled = Labelled(features, data.labels)
            return super().fit_all(filled, parts, classes=classes, device=device)

        def load(self, weights: Weights, device: str) -> Predict:
            predict = super().load(weights, device)
            return lambda features: predict({n: np.nan_to_num(x) for n, x in features.items()})

    trained = train(branch(Masked()), data, folds_of(data), classes=2, device="cpu", seed=0)
    assert [len(part.labels) for part in seen] == [24] * 5
    assert sum(np.isnan(part.features["one"]).all(axis=1).sum() for part in seen) == 2 * 4
    assert all(np.isnan(fold.means["one"]).all() for fold in trained.folds)
