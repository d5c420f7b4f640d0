"""The suite for fusions, on made-up features whose classes lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load, save

from mercore.components import Component, Features, Fusion, Labelled, Part
from mercore.machine import Machine
from mercore.media import FloatArray
from mercore.testing._fitted import CLASSES, SEED, FusionSubject, copied
from mercore.testing._suite import ComponentTests


class FusionTests(ComponentTests):
    """What mercore expects of a fusion. Set ``component``, with options that make a quick fit."""

    component: Fusion
    atol: float = 1e-5
    """How far a probability may be from that of another batch."""
    least: float = 0.7
    """The least share of test samples to get right; the three classes lie apart."""

    _kind: ClassVar[type[Component]] = Fusion
    subject: ClassVar[FusionSubject]

    @classmethod
    def setup_class(cls) -> None:
        """Make the subject, which is fitted by the first check that needs it."""
        super().setup_class()
        cls.subject = FusionSubject(cls.component)

    @classmethod
    def teardown_class(cls) -> None:
        """Drop the weights."""
        del cls.subject

    def test_probabilities_are_float32_and_sum_to_1(self) -> None:
        """A prediction is ``(samples, classes)`` float32, finite, not negative; rows sum to 1.

        Cure: end with a softmax over the classes, in float32.
        """
        table = self.subject.table
        found, expected = (str(table.dtype), table.shape), ("float32", (30, CLASSES))
        self.require(found == expected, f"the table is {found}, expected {expected}")
        self.require(np.isfinite(table).all() and table.min() >= 0, "values below 0 or not finite")
        sums = table.sum(axis=1)
        self.require(np.abs(sums - 1).max() < 1e-3, f"rows sum to {sums.min()} .. {sums.max()}")

    def test_devices_are_honoured(self) -> None:
        """On a GPU, where there is one, the same weights give the same probabilities, within 1e-3.

        Cure: move weights and features to `device`, and the result back with `.cpu()`; fit there
        too.
        """
        device = Machine().chosen_device()
        if device == "cpu":
            pytest.skip("no CUDA device")
        subject = self.subject
        table = subject.fusion.load(subject.weights, device)(copied(subject.test.features))
        gap = float(np.abs(table - subject.table).max())
        self.require(gap <= 1e-3, f"on {device!r} probabilities are {gap:.2g} off those of the CPU")
        fitted = subject.fit(subject.train, subject.valid, device=device)
        right = subject.fusion.load(fitted, device)(subject.test.features).argmax(axis=1)
        share = float((right == subject.test.labels).mean())
        self.require(share >= self.least, f"fitted on {device!r}, {share:.2f} are right")

    def test_it_learns(self) -> None:
        """It gets the share `least` of new samples right, where the classes lie apart.

        Cure: check that labels and rows stay aligned; standardise the features; train longer. Set
        `component` with options that suit 90 training samples.
        """
        right = float((self.subject.table.argmax(axis=1) == self.subject.test.labels).mean())
        self.require(right >= self.least, f"{right:.2f} of the test samples are right")

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        """Two fits with the same data and seed give the same bits.

        Cure: take every random number (weights, order, dropout) from one generator seeded with
        `seed`; ask torch for deterministic operations.
        """
        again = self.subject.fit(self.subject.train, self.subject.valid)
        changed = differing(self.subject.weights, again)
        self.require(not changed, f"the weights {changed} differ between two fits")

    def test_weights_survive_a_file(self) -> None:
        """The weights can be written as safetensors, and predict the same when read again.

        Cure: return numpy arrays by name, numbers as arrays too; keep nothing on `self`.
        """
        try:
            stored = load(save({name: np.asarray(x) for name, x in self.subject.weights.items()}))
            again = self.component.load(stored, "cpu")(copied(self.subject.test.features))
        except Exception as error:
            self.fail(f"stored weights raise {type(error).__name__}: {error}", error)
        gap = largest_gap(again, self.subject.table)
        self.require(gap <= self.atol, f"the prediction of stored weights differs by {gap:.2g}")

    def test_batching_does_not_change_results(self) -> None:
        """A sample alone is predicted as among others, within `atol`.

        Cure: standardise with what `fit` saw, never with the batch; put the network into
        evaluation mode.
        """
        features = self.subject.test.features
        alone = [self.subject.predict(rows(features, [i])) for i in range(len(self.subject.table))]
        gap = largest_gap(np.concatenate(alone), self.subject.table)
        self.require(gap <= self.atol, f"alone and together differ by {gap:.2g}")

    def test_the_same_features_give_the_same_result_twice(self) -> None:
        """A second prediction gives the same bits.

        Cure: switch dropout off in `load`; keep nothing from call to call.
        """
        again = self.subject.predict(copied(self.subject.test.features))
        self.require(same(again, self.subject.table), "the second prediction differs")

    def test_features_are_found_by_name(self) -> None:
        """The order of the mapping given to the prediction does not matter, within `atol`.

        Cure: look features up by name, in an order that the weights hold or that sorting gives.
        """
        features = copied(self.subject.test.features)
        backwards = {name: features[name] for name in reversed(list(features))}
        try:
            gap = largest_gap(self.subject.predict(backwards), self.subject.table)
        except Exception as error:
            self.fail(f"turned round, they raise {type(error).__name__}: {error}", error)
        self.require(gap <= self.atol, f"features in another order differ by {gap:.2g}")

    def test_the_input_is_not_modified(self) -> None:
        """Features and labels are the same after fitting and predicting: branches share them.

        Cure: compute into new arrays; no `-=`, no `out=`, no `torch.from_numpy(x).sub_()`.
        """
        train, valid, test = (self.subject.made(*of) for of in ((90, 1), (30, 2), (30, 3)))
        weights = self.component.fit(train, valid, classes=CLASSES, device="cpu", seed=SEED)
        self.component.load(weights, "cpu")(test.features)
        parts = {"train": train, "valid": valid, "test": test}
        originals = (self.subject.train, self.subject.valid, self.subject.test)
        for (name, part), before in zip(parts.items(), originals, strict=True):
            changed = differing(before.features, part.features)
            self.require(not changed, f"the features {changed} of {name} were changed")
            self.require(same(before.labels, part.labels), f"the labels of {name} were changed")

    def test_a_class_may_be_absent_from_training(self) -> None:
        """A rare class that a fold's training part lacks keeps its column.

        Cure: make `classes` columns, not as many as there are labels.
        """
        made = self.subject.made
        self._survives(made(60, 4, (0, 2)), made(30, 2), "a class absent from training")

    def test_one_feature_is_enough(self) -> None:
        """A branch may have a single feature.

        Cure: let nothing depend on how many features there are.
        """
        train, valid = (
            Labelled({"speech": part.features["speech"]}, part.labels)
            for part in (self.subject.train, self.subject.valid)
        )
        self._survives(train, valid, "a single feature")

    def test_validation_samples_may_be_absent(self) -> None:
        """A fold may be left without a validation sample that has all features.

        Cure: keep the last state where there is nothing to choose the best one on.
        """
        nothing = Labelled(rows(self.subject.valid.features, []), np.zeros(0, np.int64))
        self._survives(self.subject.train, nothing, "an empty validation part")

    def test_fitting_parts_together_is_fitting_each_alone(self) -> None:
        """``fit_all`` gives what ``fit`` gives each part, probabilities within 1e-3.

        Cure: let the parts share nothing but the samples: a generator, a standardisation and a
        best state each. Or leave ``fit_all`` as it is.
        """
        data, folds = self.subject.made(90, 1), np.arange(90) % 3
        parts = [
            Part(np.flatnonzero(folds != k), np.flatnonzero(folds == k), SEED + k) for k in (0, 1)
        ]
        together = self.component.fit_all(data, parts, classes=CLASSES, device="cpu")
        for part, weights in zip(parts, together, strict=True):
            alone = self.subject.fit(data.at(part.train), data.at(part.valid), part.seed)
            tables = [
                self.component.load(fitted, "cpu")(copied(self.subject.test.features))
                for fitted in (alone, weights)
            ]
            gap = largest_gap(tables[0], tables[1])
            self.require(gap <= 1e-3, f"fitted together and alone, they differ by {gap:.2g}")

    def test_what_a_sample_lacks_may_be_nan(self) -> None:
        """A fusion that masks what is missing trains on samples with gaps, and predicts them.

        Cure: give a feature that is NaN no weight, as if it were not there; a sample without any
        feature has probabilities too.
        """
        if not self.component.masks_missing:
            pytest.skip("the core fills the gaps of this fusion")
        train = self.subject.made(90, 1)
        for place, matrix in enumerate(train.features.values()):
            matrix[place::4] = np.nan
        predict = self.component.load(self.subject.fit(train, self.subject.valid), "cpu")
        test = copied(self.subject.test.features)
        test["face"][:] = np.nan
        right = float((predict(test).argmax(axis=1) == self.subject.test.labels).mean())
        self.require(right >= self.least, f"without a feature, {right:.2f} are right")
        nothing = {name: np.full_like(x, np.nan) for name, x in test.items()}
        self.require(np.isfinite(predict(nothing)).all(), "without any feature: not finite")

    def _survives(self, train: Labelled, valid: Labelled, what: str) -> None:
        __tracebackhide__ = True
        try:
            predict = self.component.load(self.subject.fit(train, valid), "cpu")
            table = predict(copied(train.features))
        except Exception as error:
            self.fail(f"{what} raises {type(error).__name__}: {error}", error)
        expected = (len(train.labels), CLASSES)
        self.require(table.shape == expected, f"{what} gives {table.shape}, expected {expected}")
        self.require(np.isfinite(table).all(), f"{what} gives NaN or infinite probabilities")


def rows(features: Features, index: list[int]) -> Features:
    """Return the features of some samples."""
    return {name: x[np.array(index, np.int64)] for name, x in features.items()}


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the names whose arrays are not the same bit for bit, or are in one only."""
    names = sorted({*one, *other})
    return [name for name in names if not same(one.get(name), other.get(name))]


def largest_gap(one: FloatArray, other: FloatArray) -> float:
    """Return the largest difference of two tables; NaN, which no limit allows, where one has it."""
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")


def same(one: object, other: object) -> bool:
    """Return whether two arrays are equal bit for bit."""
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
