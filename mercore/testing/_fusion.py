"""The suite for fusions, on made-up features whose classes lie apart."""

from __future__ import annotations

import numpy as np
import pytest

from mercore.components import Labelled, Part
from mercore.testing._fitted import CLASSES, SEED, copied
from mercore.testing._prediction import PredictionTests, differing, largest_gap, rows, same


class FusionTests(PredictionTests):
    """What mercore expects of a fusion. Set ``component``, with options that make a quick fit."""

    def test_it_learns(self) -> None:
        """It gets the share `least` of new samples right, where the classes lie apart.

        Why: labels that lost their rows raise nothing; they only make the numbers bad.

        Cure: check that labels and rows stay aligned; standardise the features; train longer. Set
        `component` with options that suit 90 training samples.
        """
        right = float((self.subject.table.argmax(axis=1) == self.subject.test.labels).mean())
        self.require(right >= self.least, f"{right:.2f} of the test samples are right")

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        """Two fits with the same data and seed give the same bits.

        Why: a run must come out alike again, and several seeds are compared in a report.

        Cure: take every random number (weights, order, dropout) from one generator seeded with
        `seed`; ask torch for deterministic operations.
        """
        again = self.subject.fit(self.subject.train, self.subject.valid)
        changed = differing(self.subject.weights, again)
        self.require(not changed, f"the weights {changed} differ between two fits")

    def test_the_input_is_not_modified(self) -> None:
        """Features and labels are the same after fitting and predicting.

        Why: branches share the arrays.

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
        """A class without a training sample keeps its column in the probabilities.

        Why: a fold's training part may lack a rare class.

        Cure: make `classes` columns, not as many as there are labels.
        """
        made = self.subject.made
        self._survives(made(60, 4, (0, 2)), made(30, 2), "a class absent from training")

    def test_one_feature_is_enough(self) -> None:
        """It can be fitted on a single feature.

        Why: a branch may have one feature; an ablation tries each alone.

        Cure: let nothing depend on how many features there are.
        """
        train, valid = (
            Labelled({"speech": part.features["speech"]}, part.labels)
            for part in (self.subject.train, self.subject.valid)
        )
        self._survives(train, valid, "a single feature")

    def test_validation_samples_may_be_absent(self) -> None:
        """It can be fitted where there is no validation sample.

        Why: a fold may be left without a validation sample that has all features.

        Cure: keep the last state where there is nothing to choose the best one on.
        """
        nothing = Labelled(rows(self.subject.valid.features, []), np.zeros(0, np.int64))
        self._survives(self.subject.train, nothing, "an empty validation part")

    def test_fitting_parts_together_is_fitting_each_alone(self) -> None:
        """``fit_all`` gives what ``fit`` gives each part, probabilities within 1e-3.

        Why: how many folds are fitted at once depends on the machine.

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

        Why: it says so by `masks_missing`, and the core then leaves the gaps to it.

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
