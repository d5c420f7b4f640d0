from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from mercore import CheckpointError, Labelled, Weights
from mercore.errors import RunError
from mercore.testing import FusionTests
from mercore_fusions import Sklearn

DIMS = {"vit": 5, "hubert": 7}
SEED = 3


def toy(samples: int, seed: int, labels: tuple[int, ...] = (0, 1, 2, 3)) -> Labelled:
    """Return samples whose classes overlap, far from mean 0 and deviation 1."""
    centres, noise = np.random.default_rng(0), np.random.default_rng(seed)
    chosen = np.array(labels)[noise.integers(len(labels), size=samples)]
    features = {}
    for name, dim in DIMS.items():
        x = 0.7 * centres.normal(size=(4, dim))[chosen] + noise.normal(size=(samples, dim))
        features[name] = (5 + 10 * x).astype(np.float32)
    return Labelled(features, chosen)


def standardised(data: Labelled, weights: Weights) -> NDArray[np.float64]:
    """Return ``(samples, dims)``, rounded to float32 on the way as scikit-learn's forests do."""
    beside = np.hstack([data.features[name] for name in sorted(DIMS)])
    mean, scale = (weights[name].astype(np.float32) for name in ("mean", "scale"))
    return ((beside - mean) / scale).astype(np.float64)


def fit(fusion: Sklearn, train: Labelled) -> Weights:
    return fusion.fit(train, train, classes=4, device="cpu", seed=SEED)


def calibrated(**options: Any) -> CalibratedClassifierCV:
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    return CalibratedClassifierCV(SVC(**options), cv=folds, ensemble=False)


SAME = [
    (Sklearn(), calibrated()),
    (Sklearn(c=3.0, class_weights="balanced"), calibrated(C=3.0, class_weight="balanced")),
    (Sklearn(c=0.1, kernel="linear"), calibrated(C=0.1, kernel="linear")),
    (
        Sklearn(estimator="random_forest", trees=9),
        RandomForestClassifier(9, random_state=SEED),
    ),
    (
        Sklearn(estimator="random_forest", trees=9, depth=3, class_weights="balanced"),
        RandomForestClassifier(9, max_depth=3, class_weight="balanced", random_state=SEED),
    ),
    (Sklearn(estimator="lda"), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    (Sklearn(estimator="knn", neighbours=7), KNeighborsClassifier(7)),
]


@pytest.mark.parametrize("labels", [(0, 1, 2, 3), (1, 3)])
@pytest.mark.parametrize(("fusion", "model"), SAME)
def test_it_predicts_what_scikit_learn_does_and_0_for_absent_classes(
    fusion: Sklearn, model: Any, labels: tuple[int, ...]
) -> None:
    train, test = toy(90, 1, labels), toy(300, 2, labels)
    weights = fit(fusion, train)
    x, y = (standardised(data, weights) for data in (train, test))
    if isinstance(model, CalibratedClassifierCV):
        # What gamma="scale" gives all samples; each fold of the calibration would have its own.
        model.set_params(estimator__gamma=1 / (12 * x.var()))
    expected = np.zeros((300, 4))
    expected[:, labels] = model.fit(x, train.labels).predict_proba(y)
    found = fusion.load(weights, "cpu")(test.features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equally_frequent_classes_are_the_priors_of_lda() -> None:
    fusion, train = Sklearn(estimator="lda", class_weights="balanced"), toy(90, 1)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.25] * 4)
    weights = fit(fusion, train)
    expected = model.fit(standardised(train, weights), train.labels)
    found = weights["intercept"].astype(np.float64)
    np.testing.assert_allclose(found, expected.intercept_, atol=1e-5)


def test_a_class_rarer_than_the_folds_of_the_calibration_is_taken() -> None:
    train = toy(60, 1)
    rows = np.concatenate(
        [np.flatnonzero(train.labels != 2), np.flatnonzero(train.labels == 2)[:2]]
    )
    rare = Labelled({n: x[rows] for n, x in train.features.items()}, train.labels[rows])
    assert np.isfinite(Sklearn().load(fit(Sklearn(), rare), "cpu")(train.features)).all()
    rare = Labelled({n: x[:-1] for n, x in rare.features.items()}, rare.labels[:-1])
    with pytest.raises(RunError, match=r"a single training sample of class 2, expected two"):
        fit(Sklearn(), rare)


def test_fewer_samples_than_neighbours_all_vote() -> None:
    fusion, train = Sklearn(estimator="knn", neighbours=50), toy(20, 1)
    shares = np.bincount(train.labels, minlength=4) / 20
    found = fusion.load(fit(fusion, train), "cpu")(train.features)
    np.testing.assert_allclose(found, np.tile(shares, (20, 1)), atol=1e-6)


def test_a_single_class_is_an_error() -> None:
    with pytest.raises(RunError, match=r"found classes \[2\] among the training samples"):
        fit(Sklearn(), toy(20, 1, (2,)))


def test_options_of_another_estimator_are_refused_all_at_once() -> None:
    message = r"c is an option of svm, not of knn; trees is an option of random_forest, not of knn"
    with pytest.raises(ValidationError, match=message):
        Sklearn(estimator="knn", c=2.0, trees=5)


def test_other_features_or_weights_are_an_error() -> None:
    weights, features = fit(Sklearn(estimator="lda"), toy(80, 1)), dict(toy(5, 2).features)
    predict = Sklearn(estimator="lda").load(weights, "cpu")
    assert predict({name: x[:0] for name, x in features.items()}).shape == (0, 4)
    with pytest.raises(CheckpointError, match=r"dimensions {'vit': 5}, expected {'vit': 5, "):
        predict({"vit": features["vit"]})
    with pytest.raises(CheckpointError, match=r"without \['sample', 'label'\] cannot be .* 'knn'"):
        Sklearn(estimator="knn").load(weights, "cpu")


class TestSvm(FusionTests):
    component = Sklearn(estimator="svm", class_weights="balanced")
    least = 0.9


class TestRandomForest(FusionTests):
    component = Sklearn(estimator="random_forest", trees=15, depth=6)
    least = 0.9


class TestLda(FusionTests):
    component = Sklearn(estimator="lda")
    least = 0.9


class TestKnn(FusionTests):
    component = Sklearn(estimator="knn", neighbours=5)
    least = 0.9
