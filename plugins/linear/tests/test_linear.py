from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mercore import CheckpointError, Labelled, Weights
from mercore.errors import RunError
from mercore.testing import FusionTests
from mercore_linear import Linear

DIMS = {"vit": 5, "hubert": 7}


def toy(samples: int, seed: int, labels: tuple[int, ...] = (0, 1, 2, 3)) -> Labelled:
    """Return samples whose classes overlap a little, far from mean 0 and deviation 1."""
    centres, noise = np.random.default_rng(0), np.random.default_rng(seed)
    chosen = np.array(labels)[noise.integers(len(labels), size=samples)]
    features = {}
    for name, dim in DIMS.items():
        x = 1.2 * centres.normal(size=(4, dim))[chosen] + noise.normal(size=(samples, dim))
        features[name] = (5 + 10 * x).astype(np.float32)
    return Labelled(features, chosen)


def fit(fusion: Linear, train: Labelled, classes: int = 4) -> Weights:
    return fusion.fit(train, train, classes=classes, device="cpu", seed=0)


@pytest.mark.parametrize("labels", [(0, 1, 2, 3), (1, 3), (0, 2, 3)])
def test_it_predicts_what_scikit_learn_does_and_0_for_absent_classes(
    labels: tuple[int, ...],
) -> None:
    train, test = toy(80, 1, labels), toy(30, 2, labels)
    probabilities = Linear(c=0.1).load(fit(Linear(c=0.1), train), "cpu")(test.features)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    reference.fit(np.hstack([train.features[n] for n in sorted(DIMS)]).astype(float), train.labels)
    expected = np.zeros((30, 4))
    expected[:, labels] = reference.predict_proba(
        np.hstack([test.features[n] for n in sorted(DIMS)]).astype(float)
    )
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities[:, [c for c in range(4) if c not in labels]] == 0).all()


def test_the_order_of_the_features_changes_no_weight() -> None:
    train = toy(80, 1)
    turned = Labelled({name: train.features[name] for name in sorted(DIMS)}, train.labels)
    weights, again = fit(Linear(), train), fit(Linear(), turned)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, again[name])


def test_balanced_weights_help_the_rare_class() -> None:
    train = toy(200, 1)
    rows = np.concatenate(
        [np.flatnonzero(train.labels != 2), np.flatnonzero(train.labels == 2)[:3]]
    )
    lopsided = Labelled({n: x[rows] for n, x in train.features.items()}, train.labels[rows])
    share = {
        balanced: Linear(balanced=balanced)
        .load(fit(Linear(balanced=balanced), lopsided), "cpu")(toy(100, 2).features)[:, 2]
        .mean()
        for balanced in (True, False)
    }
    assert share[True] > share[False]


def test_one_feature_that_partly_never_varies_will_do() -> None:
    train = toy(80, 1)
    train.features["vit"][:, 0] = 0.1
    one = Labelled({"vit": train.features["vit"]}, train.labels)
    predict = Linear().load(fit(Linear(), one), "cpu")
    assert np.isfinite(predict(one.features)).all()
    assert predict({"vit": np.empty((0, 5), np.float32)}).shape == (0, 4)


def test_a_single_class_is_an_error() -> None:
    with pytest.raises(RunError, match=r"found classes \[2\] among the training samples"):
        fit(Linear(), toy(20, 1, (2,)))


def test_other_features_than_those_trained_on_are_an_error() -> None:
    predict = Linear().load(fit(Linear(), toy(80, 1)), "cpu")
    features = dict(toy(5, 2).features)
    with pytest.raises(CheckpointError, match=r"dimensions {'vit': 4, 'hubert': 7}, expected"):
        predict(features | {"vit": features["vit"][:, :4]})
    with pytest.raises(CheckpointError, match=r"dimensions {'vit': 5}, expected"):
        predict({"vit": features["vit"]})


class TestLinear(FusionTests):
    component = Linear(c=0.5, max_iter=500, balanced=True)
    least = 0.9
