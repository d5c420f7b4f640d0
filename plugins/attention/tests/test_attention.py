from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mercore import CheckpointError, Features, Labelled, Part, Weights
from mercore.errors import RunError
from mercore.machine import limited
from mercore.metrics import waf
from mercore.nn import fit_network
from mercore.testing import FusionTests
from mercore_attention import Attention

CLASSES = 3
DIMS = {"hubert": 7, "vit": 5, "baichuan": 12}
SMALL = Attention(hidden=8, epochs=5)


def toy(
    samples: int, seed: int, labels: tuple[int, ...] = (0, 1, 2), dims: Mapping[str, int] = DIMS
) -> Labelled:
    """Return samples whose classes lie apart in every feature, far from mean 0 and deviation 1."""
    centres = np.random.default_rng(0)
    noise = np.random.default_rng(seed)
    chosen = np.array(labels)[noise.integers(len(labels), size=samples)]
    features = {
        name: (
            5 + 10 * (2 * centres.normal(size=(9, dim))[chosen] + noise.normal(size=(samples, dim)))
        ).astype(np.float32)
        for name, dim in dims.items()
    }
    return Labelled(features, chosen)


def empty() -> Labelled:
    return Labelled(
        {name: np.empty((0, d), np.float32) for name, d in DIMS.items()}, np.empty(0, np.int64)
    )


def fit(fusion: Attention, train: Labelled, valid: Labelled, seed: int = 0) -> Weights:
    return fusion.fit(train, valid, classes=CLASSES, device="cpu", seed=seed)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def expected(weights: Mapping[str, Any], features: Features, softmax: bool) -> NDArray[np.float64]:
    """Return the probabilities of the network as the papers describe it, in plain numpy."""

    def encoder(prefix: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        for layer in range(3):
            w, b = weights[f"{prefix}.{layer}.weight"], weights[f"{prefix}.{layer}.bias"]
            x = np.maximum(np.einsum("ni,oi->no", x, w.astype(float)) + b, 0)
        return x

    names = ["hubert", "vit", "baichuan"]
    encoded = [
        encoder(
            f"encoder.{n}",
            (features[n].astype(float) - weights[f"mean.{n}"]) / weights[f"scale.{n}"],
        )
        for n in names
    ]
    attended = encoder("attention", np.concatenate(encoded, axis=1))
    score = attended @ weights["score.weight"].T.astype(float) + weights["score.bias"]
    if softmax:
        score = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    fused = sum(score[:, [place]] * part for place, part in enumerate(encoded))
    out = fused @ weights["classify.weight"].T.astype(float) + weights["classify.bias"]
    exponent = np.exp(out - out.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponent / exponent.sum(axis=1, keepdims=True)
    return probabilities


@pytest.mark.parametrize("normalise", ["softmax", "none"])
@pytest.mark.parametrize("standardise", [True, False])
def test_the_network_is_the_one_described(normalise: Any, standardise: bool) -> None:
    fusion = Attention(hidden=8, epochs=3, normalise=normalise, standardise=standardise)
    weights = fit(fusion, toy(40, 1), toy(10, 2))
    test = toy(20, 3)
    found = fusion.load(weights, "cpu")(test.features)
    np.testing.assert_allclose(
        found, expected(weights, test.features, normalise == "softmax"), atol=1e-6
    )


def recurrent(weights: Mapping[str, Any], name: str, frames: NDArray[np.float64]) -> Any:
    """Return the last hidden state of an LSTM over ``(frames, dim)``, gate by gate."""
    w_in, w_own, b_in, b_own = (
        weights[f"lstm.{name}.{part}"].astype(float)
        for part in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    state = cell = np.zeros(w_own.shape[1])
    for frame in frames:
        into, forget, new, out = np.split(w_in @ frame + b_in + w_own @ state + b_own, 4)
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
        state = sigmoid(out) * np.tanh(cell)
    return state


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def sequences(samples: int, seed: int, most: int = 6) -> Labelled:
    """Return sequences of 1 to `most` frames about the vectors of ``toy``, NaN after the last."""
    noise, flat = np.random.default_rng(seed + 100), toy(samples, seed)
    features = {}
    for name, x in flat.features.items():
        table = (x[:, None] + noise.normal(size=(samples, most, x.shape[1]))).astype(np.float32)
        for row, length in enumerate(noise.integers(1, most + 1, size=samples)):
            table[row, length:] = np.nan
        features[name] = table
    return Labelled(features, flat.labels)


def head(weights: Mapping[str, Any], encoded: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the probabilities from the encoded features of one sample each, softmax weights."""
    x = np.concatenate(encoded, axis=1)
    for layer in range(3):
        w, b = weights[f"attention.{layer}.weight"], weights[f"attention.{layer}.bias"]
        x = np.maximum(x @ w.T.astype(float) + b, 0)
    score = np.exp(x @ weights["score.weight"].T.astype(float) + weights["score.bias"])
    score /= score.sum(axis=1, keepdims=True)
    fused = sum(score[:, [place]] * part for place, part in enumerate(encoded))
    out = np.exp(fused @ weights["classify.weight"].T.astype(float) + weights["classify.bias"])
    probabilities: NDArray[np.float64] = out / out.sum(axis=1, keepdims=True)
    return probabilities


def test_sequences_go_through_an_lstm_as_described() -> None:
    fusion = Attention(hidden=8, epochs=3, frames=6)
    weights = fit(fusion, sequences(40, 1), sequences(10, 2))
    test = sequences(12, 3)
    encoded = []
    for name in ("hubert", "vit", "baichuan"):
        standard = (test.features[name].astype(float) - weights[f"mean.{name}"]) / weights[
            f"scale.{name}"
        ]
        states = np.stack([recurrent(weights, name, x[~np.isnan(x[:, 0])]) for x in standard])
        w, b = weights[f"encoder.{name}.weight"], weights[f"encoder.{name}.bias"]
        encoded.append(states @ w.T.astype(float) + b)
    found = fusion.load(weights, "cpu")(test.features)
    np.testing.assert_allclose(found, head(weights, encoded), atol=1e-6)


def test_the_mean_over_frames_is_that_of_the_frames_there_are() -> None:
    fusion = Attention(hidden=8, epochs=3, frames=6, over="mean")
    weights = fit(fusion, sequences(40, 1), sequences(10, 2))
    test = sequences(12, 3)
    means = {name: np.nanmean(x, axis=1) for name, x in test.features.items()}
    found = fusion.load(weights, "cpu")(test.features)
    np.testing.assert_allclose(found, expected(weights, means, softmax=True), atol=1e-6)


def test_a_feature_that_a_sample_lacks_has_no_say() -> None:
    fusion = Attention(hidden=16, epochs=30, lr=1e-2, mask=True)
    train, test = toy(120, 1), toy(40, 3)
    for place, name in enumerate(DIMS):
        train.features[name][place::3] = np.nan
    predict = fusion.load(fit(fusion, train, toy(30, 2)), "cpu")
    for name in DIMS:
        without = {**test.features, name: np.full_like(test.features[name], np.nan)}
        assert (predict(without).argmax(axis=1) == test.labels).mean() > 0.9
    nothing = {n: np.full_like(x, np.nan) for n, x in test.features.items()}
    assert len(np.unique(predict(nothing), axis=0)) == 1


def test_the_mertools_preset_sums_raw_features_with_raw_weights() -> None:
    chosen = Attention.model_validate({"preset": "mertools"})
    assert (chosen.normalise, chosen.standardise) == ("none", False)
    kept = Attention.model_validate({"preset": "mertools", "standardise": True})
    assert (kept.normalise, kept.standardise) == ("none", True)


@pytest.mark.parametrize("fusion", [SMALL, Attention(hidden=8, epochs=4, frames=6)])
def test_how_many_parts_are_trained_together_changes_rounding_alone(fusion: Attention) -> None:
    data = sequences(61, 1) if fusion.frames else toy(61, 1)
    folds = np.arange(61) % 4  # parts of 45 and 46 samples: the last batches differ
    parts = [Part(np.flatnonzero(folds != k), np.flatnonzero(folds == k), k) for k in range(4)]
    options: dict[str, Any] = {"classes": CLASSES, "device": "cpu"}
    with limited(1):
        alone = [
            fusion.fit(data.at(part.train), data.at(part.valid), seed=part.seed, **options)
            for part in parts
        ]
        for together in (1, 2, 4):
            fitted = fit_network(fusion, data, parts, together=together, **options)
            for one, other in zip(alone, fitted, strict=True):
                for name in one:
                    assert np.abs(one[name].astype(float) - other[name].astype(float)).max() < 1e-5


def test_the_first_step_goes_against_the_gradient_as_adam_does() -> None:
    """Adam's first step is lr times the sign of the gradient; the loss must fall by it."""
    train = toy(32, 1)
    shared: dict[str, Any] = dict(hidden=8, dropout=0.0, batch=32, epochs=1, weight_decay=0.0)
    before = fit(Attention(lr=1e-12, **shared), train, empty())
    after = fit(Attention(lr=1e-3, **shared), train, empty())
    trained = [k for k in before if k.startswith(("encoder", "classify"))]
    moved = [np.abs(np.subtract(after[k], before[k])).max() for k in trained]
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-2)
    losses = [
        -np.log(SMALL.load(w, "cpu")(train.features)[range(32), train.labels]).mean()
        for w in (before, after)
    ]
    assert losses[1] < losses[0]


def test_another_seed_gives_another_result() -> None:
    train, valid = toy(70, 1), toy(20, 2)
    assert not same(fit(SMALL, train, valid, seed=3), fit(SMALL, train, valid, seed=4))


def test_the_random_state_and_threads_of_the_caller_neither_change_nor_matter() -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    weights = fit(SMALL, toy(40, 1), toy(10, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(6)
    assert same(weights, fit(SMALL, toy(40, 1), toy(10, 2)))


def test_features_may_be_read_only_and_none() -> None:
    train = toy(40, 1)
    for x in train.features.values():
        x.flags.writeable = False
    before = {name: x.copy() for name, x in train.features.items()}
    predict = SMALL.load(fit(SMALL, train, toy(10, 2)), "cpu")
    assert predict(empty().features).shape == (0, CLASSES)
    predict(train.features)
    for name, x in train.features.items():
        np.testing.assert_array_equal(x, before[name])


def test_a_long_table_is_predicted_like_its_parts() -> None:
    predict = SMALL.load(fit(SMALL, toy(40, 1), toy(10, 2)), "cpu")
    features = toy(5000, 3).features
    last = predict({name: x[2040:] for name, x in features.items()})
    np.testing.assert_allclose(predict(features)[2040:], last, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_features_will_do(count: int) -> None:
    dims = {f"f{number}": 6 for number in range(count)}
    weights = fit(SMALL, toy(40, 1, dims=dims), toy(10, 2, dims=dims))
    probabilities = SMALL.load(weights, "cpu")(toy(20, 3, dims=dims).features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("class_weights", ["balanced", "none"])
def test_a_class_absent_from_training_keeps_its_column(class_weights: Any) -> None:
    fusion = Attention(hidden=16, epochs=20, class_weights=class_weights)
    weights = fit(fusion, toy(150, 1, labels=(0, 2)), toy(50, 2, labels=(0, 2)))
    probabilities = fusion.load(weights, "cpu")(toy(20, 3, labels=(0, 2)).features)
    assert probabilities.shape == (20, CLASSES)
    assert set(probabilities.argmax(axis=1)) <= {0, 2}


@pytest.mark.parametrize("class_weights", ["balanced", "none"])
def test_validation_samples_may_be_of_an_absent_class(class_weights: Any) -> None:
    fusion = Attention(hidden=8, epochs=5, class_weights=class_weights)
    weights = fit(fusion, toy(60, 1, labels=(0, 2)), toy(20, 2, labels=(1,)))
    assert all(np.isfinite(array).all() for array in weights.values())


def test_balanced_class_weights_help_the_rare_class() -> None:
    train = toy(200, 1)
    rare = np.flatnonzero(train.labels == 2)[:3]
    rows = np.concatenate([np.flatnonzero(train.labels != 2), rare])
    noisy = {
        n: x[rows] + 40 * np.random.default_rng(4).normal(size=(len(rows), x.shape[1]))
        for n, x in train.features.items()
    }
    lopsided = Labelled({n: x.astype(np.float32) for n, x in noisy.items()}, train.labels[rows])
    test = toy(100, 3).features

    def share(class_weights: Any) -> float:
        fusion = Attention(hidden=8, epochs=8, class_weights=class_weights)
        predict = fusion.load(fit(fusion, lopsided, empty()), "cpu")
        return float(predict(test)[:, 2].mean())

    assert share("balanced") > share("none")


def opposed() -> tuple[Labelled, Labelled]:
    """Return validation labels turned against training: the longer it trains, the worse."""
    train, valid = toy(100, 1), toy(60, 2)
    return train, Labelled(valid.features, (valid.labels + 1) % CLASSES)


def test_the_best_epoch_on_the_validation_samples_is_kept() -> None:
    train, against = opposed()
    kept = fit(Attention(hidden=8, epochs=30, lr=3e-3), train, against)
    last = fit(Attention(hidden=8, epochs=30, lr=3e-3), train, empty())

    def score(weights: Weights) -> float:
        found = SMALL.load(weights, "cpu")(against.features).argmax(axis=1)
        return waf(against.labels, found, CLASSES)

    assert score(kept) > score(last)


def test_patience_stops_only_what_no_longer_improves() -> None:
    train, against = opposed()
    kept = fit(Attention(hidden=8, epochs=30, lr=3e-3), train, against)
    patient = Attention(hidden=8, epochs=30, lr=3e-3, patience=25)
    assert same(kept, fit(patient, train, against))
    # Without patience, a million epochs would take hours.
    longer = Attention(hidden=8, epochs=10**6, lr=3e-3, patience=25)
    assert same(kept, fit(longer, train, against))


def test_without_validation_samples_the_last_epoch_counts() -> None:
    train = toy(40, 1)
    two, three = (fit(Attention(hidden=8, epochs=n), train, empty()) for n in (2, 3))
    assert not same(two, three)
    assert same(three, fit(Attention(hidden=8, epochs=3, patience=1), train, empty()))


def test_a_dimension_that_never_varies_is_harmless() -> None:
    train = toy(40, 1)
    train.features["vit"][:, 0] = 0.1
    weights = fit(SMALL, train, toy(10, 2))
    assert weights["scale.vit"][0] == 1
    assert weights["mean.vit"][0] == np.float32(0.1)
    assert np.isfinite(SMALL.load(weights, "cpu")(train.features)).all()


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(RunError, match=r"the loss is (nan|inf) in epoch \d+; lower lr=1e\+30"):
        fit(Attention(hidden=8, lr=1e30), toy(40, 1), toy(10, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_named(value: float) -> None:
    train = toy(40, 1)
    train.features["vit"][3, 2] = value
    with pytest.raises(RunError, match=r"feature 'vit' has 4 finite dimensions of 5"):
        fit(SMALL, train, toy(10, 2))


def test_no_training_samples_is_an_error() -> None:
    with pytest.raises(RunError, match="found 0 training samples and 3 features"):
        fit(SMALL, empty(), toy(10, 2))


def test_other_features_than_those_trained_on_are_an_error() -> None:
    predict = SMALL.load(fit(SMALL, toy(40, 1), toy(10, 2)), "cpu")
    features = dict(toy(10, 3).features)
    with pytest.raises(CheckpointError, match=r"'vit': found 4 dimensions, expected 5"):
        predict(features | {"vit": features["vit"][:, :4]})
    with pytest.raises(CheckpointError, match=r"found features \['baichuan', 'vit'\]"):
        predict({name: features[name] for name in ("vit", "baichuan")})


def test_weights_that_do_not_fit_are_an_error() -> None:
    weights = dict(fit(SMALL, toy(40, 1), toy(10, 2)))
    with pytest.raises(
        CheckpointError, match=r"do not fit Attention\(.*hidden=16(.|\n)*'score.weight': found"
    ):
        Attention(hidden=16).load(weights, "cpu")
    with pytest.raises(CheckpointError, match=r"'extra': found \(1,\), expected None"):
        SMALL.load(weights | {"extra": np.zeros(1)}, "cpu")
    del weights["score.bias"]
    with pytest.raises(CheckpointError, match=r"'score.bias': found None, expected \(3,\)"):
        SMALL.load(weights, "cpu")
    with pytest.raises(CheckpointError, match=r"weights without \['order\.\*'\]"):
        SMALL.load({}, "cpu")


def test_every_option_is_described() -> None:
    assert all(field.description for field in Attention.model_fields.values())


class TestAttention(FusionTests):
    component = Attention(hidden=16, epochs=20, batch=16)
    least = 0.95


class TestMertools(FusionTests):
    component = Attention(preset="mertools", hidden=16, epochs=20, batch=16)
    least = 0.9


class TestMasked(FusionTests):
    component = Attention(mask=True, hidden=16, epochs=20, lr=5e-3, batch=16)
    least = 0.95


class TestSequences(FusionTests):
    component = Attention(frames=5, hidden=16, epochs=20, lr=5e-3, batch=16)
    least = 0.9


class TestMeanOverFrames(FusionTests):
    component = Attention(frames=5, over="mean", mask=True, hidden=16, epochs=20, batch=16)
    least = 0.9
