from __future__ import annotations

import pytest
import torch
from network_checks import check, rows
from torch import Tensor

from mercore import Labelled
from mercore.testing import FusionTests
from mercore_fusions import Gated

SMALL = Gated(hidden=4)
THREE = {"a": 4, "b": 5, "c": 6}
TWO = {"vit": 5, "text": 6}


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def classified(weights: dict[str, Tensor], h: Tensor) -> Tensor:
    return linear(weights, "classify", torch.relu(linear(weights, "hidden.0", h)))


def each_its_own(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    """Return the logits where every feature has a gate; one that lacks is left out."""
    beside = torch.cat([x.nan_to_num() for x in inputs.values()], dim=1)
    h = torch.zeros(5, 4, dtype=torch.float64)
    for name, x in inputs.items():
        z = torch.sigmoid(linear(weights, f"gate.{name}", beside))
        passed = z * torch.tanh(linear(weights, f"encode.{name}", x.nan_to_num()))
        h = h + torch.where(x[:, :1].isnan(), 0.0, passed)
    return classified(weights, h)


def shared(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    z = torch.sigmoid(linear(weights, "gate.vit", torch.cat([*inputs.values()], dim=1)))
    one, other = (torch.tanh(linear(weights, f"encode.{name}", x)) for name, x in inputs.items())
    return classified(weights, z * one + (1 - z) * other)


@pytest.mark.parametrize("dims", [{"vit": 5}, THREE])
def test_any_number_of_features_has_a_gate_each(dims: dict[str, int]) -> None:
    check(SMALL, rows(dims), each_its_own)


def test_two_features_share_a_gate() -> None:
    check(SMALL, rows(TWO), shared)


def test_of_three_features_one_that_lacks_is_left_out() -> None:
    inputs = rows(THREE)
    inputs["b"][:, 2] = torch.nan
    inputs["c"][:, 3] = torch.nan
    check(SMALL, inputs, each_its_own)


@pytest.mark.parametrize(("lacking", "other"), [("vit", "text"), ("text", "vit")])
def test_without_one_of_two_features_the_other_passes_whole(lacking: str, other: str) -> None:
    inputs = rows(TWO)
    whole = {name: x.clone() for name, x in inputs.items()}
    inputs[lacking][:, 2] = torch.nan

    def reference(weights: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
        member = 0 if torch.equal(own[other], inputs[other][0]) else 1
        expected = shared(weights, {name: x[member] for name, x in whole.items()})
        alone = classified(weights, torch.tanh(linear(weights, f"encode.{other}", own[other])))
        return torch.stack([*expected[:2], alone[2], *expected[3:]])

    check(SMALL, inputs, reference)


def test_it_learns_from_samples_that_lack_a_feature() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    features = {}
    for start, name in enumerate(("vit", "text")):
        x = torch.randn(60, 3, generator=generator) + 3 * labels[:, None]
        x[start::2] = torch.nan  # every sample has one feature only
        features[name] = x.roll(0).numpy()
    train = Labelled(features, labels.numpy())
    fusion = Gated(hidden=8, epochs=10, lr=1e-2)
    predict = fusion.load(fusion.fit(train, train, classes=2, device="cpu", seed=0), "cpu")
    assert (predict(features).argmax(axis=1) == labels.numpy()).mean() > 0.9


def test_it_asks_for_what_lacks_unless_told_not_to() -> None:
    assert Gated().masks_missing
    assert not Gated(mask=False).masks_missing


class TestGated(FusionTests):
    component = Gated(hidden=16, epochs=5, lr=2e-2)
    least = 0.8
