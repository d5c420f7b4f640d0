"""The checks of a fitted fusion: what the function that ``load`` returns predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load, save

from mercore.components import Component, Features, Fusion, Predict
from mercore.errors import MercoreError
from mercore.machine import Machine
from mercore.media import FloatArray
from mercore.testing._fitted import CLASSES, FusionSubject, copied
from mercore.testing._release import references, still_held
from mercore.testing._suite import ComponentTests


class PredictionTests(ComponentTests):
    """The checks of the predictions of a fusion."""

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

        Why: ensembles add up the probabilities of all branches.

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

        Why: a branch trained on a GPU predicts on machines without one, and the other way round.

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

    def test_weights_survive_a_file(self) -> None:
        """The weights can be written as safetensors, and predict the same when read again.

        Why: a trained branch is a safetensors file in the run folder.

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

        Why: new clips are predicted one at a time or many at once.

        Cure: standardise with what `fit` saw, never with the batch; put the network into
        evaluation mode.
        """
        features = self.subject.test.features
        alone = [self.subject.predict(rows(features, [i])) for i in range(len(self.subject.table))]
        gap = largest_gap(np.concatenate(alone), self.subject.table)
        self.require(gap <= self.atol, f"alone and together differ by {gap:.2g}")

    def test_the_same_features_give_the_same_result_twice(self) -> None:
        """A second prediction gives the same bits.

        Why: a run must come out alike again.

        Cure: switch dropout off in `load`; keep nothing from call to call.
        """
        again = self.subject.predict(copied(self.subject.test.features))
        self.require(same(again, self.subject.table), "the second prediction differs")

    def test_features_are_found_by_name(self) -> None:
        """The order of the mapping given to the prediction does not matter, within `atol`.

        Why: to list the features of a branch in another order is no other experiment.

        Cure: look features up by name, in an order that the weights hold or that sorting gives.
        """
        features = copied(self.subject.test.features)
        backwards = {name: features[name] for name in reversed(list(features))}
        try:
            gap = largest_gap(self.subject.predict(backwards), self.subject.table)
        except Exception as error:
            self.fail(f"turned round, they raise {type(error).__name__}: {error}", error)
        self.require(gap <= self.atol, f"features in another order differ by {gap:.2g}")

    def test_a_dropped_function_leaves_nothing(self) -> None:
        """Arrays and tensors that a loaded function held are gone with it.

        Why: a run loads the weights of every fold of every branch, one after another.

        Cure: hold the weights in the function that `load` returns, and nowhere else: no `@cache`,
        no dict of a module or a class, no attribute of the component.
        """
        held = still_held(references(self._used()))
        self.require(not held, f"still there after it was dropped: {'; '.join(held[:3])}")

    def test_an_unknown_device_is_refused(self) -> None:
        """`load` raises a MercoreError that names it, or does not look at it.

        Why: a traceback out of a library does not say what to change.

        Cure: begin with `mercore.nn.device_of(device)`, or raise RunError with what can be.
        """
        for device in ("abacus", "cuda:99"):
            try:
                self.component.load(self.subject.weights, device)
            except MercoreError as error:
                self.require(device in str(error), f"load on {device!r} says {str(error)!r}")
            except Exception as error:
                self.fail(f"load on {device!r} raises {type(error).__name__}: {error}", error)

    def _used(self) -> Predict:
        """Return a function of its own, used once, with weights that nobody else holds."""
        weights = {name: np.array(value) for name, value in self.subject.weights.items()}
        predict = self.component.load(weights, "cpu")
        predict(copied(self.subject.test.features))
        return predict


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
