from __future__ import annotations

from typing import Any

import pytest
import torch

from mercore.testing import FusionTests
from mercore_fusions import Gated

THREE = {"a": 4, "b": 5, "c": 6}
TWO = {"vit": 5, "text": 6}


def linear(weights: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def classified(weights: Any, h: torch.Tensor) -> torch.Tensor:
    return linear(weights, "classify", torch.relu(linear(weights, "hidden.0", h)))


def logits(weights: Any, inputs: Any) -> torch.Tensor:
    return Gated(hidden=4).logits(weights, inputs, lambda x: x)


@pytest.mark.parametrize("dims", [{"vit": 5}, THREE])
def test_any_number_of_features_has_a_gate_each(
    dims: dict[str, int], drawn: Any, rows: Any
) -> None:
    weights, inputs = drawn(Gated(hidden=4), dims), rows(dims)
    beside = torch.cat([*inputs.values()], dim=1)
    terms = [
        torch.sigmoid(linear(weights, f"gate.{name}", beside))
        * torch.tanh(linear(weights, f"encode.{name}", x))
        for name, x in inputs.items()
    ]
    found = logits(weights, inputs)
    torch.testing.assert_close(
        found, classified(weights, sum(terms[1:], terms[0])), atol=1e-10, rtol=0
    )
    assert all(g.any() for g in torch.autograd.grad(found.square().sum(), [*weights.values()]))


def test_two_features_share_a_gate(drawn: Any, rows: Any) -> None:
    weights, inputs = drawn(Gated(hidden=4), TWO), rows(TWO)
    z = torch.sigmoid(linear(weights, "gate.vit", torch.cat([*inputs.values()], dim=1)))
    one, other = (torch.tanh(linear(weights, f"encode.{name}", x)) for name, x in inputs.items())
    found = logits(weights, inputs)
    expected = classified(weights, z * one + (1 - z) * other)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert all(g.any() for g in torch.autograd.grad(found.square().sum(), [*weights.values()]))


@pytest.mark.parametrize("lacking", ["vit", "text"])
def test_without_one_of_two_features_the_other_passes_whole(
    lacking: str, drawn: Any, rows: Any
) -> None:
    weights, inputs = drawn(Gated(hidden=4), TWO), rows(TWO)
    whole = logits(weights, inputs)
    (other,) = TWO.keys() - {lacking}
    inputs[lacking][2] = torch.nan
    found = logits(weights, inputs)
    alone = classified(weights, torch.tanh(linear(weights, f"encode.{other}", inputs[other])))
    torch.testing.assert_close(found[2], alone[2], atol=1e-10, rtol=0)
    torch.testing.assert_close(found[[0, 1, 3, 4]], whole[[0, 1, 3, 4]], atol=0, rtol=0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(found.sum(), [*weights.values()]))


def test_of_three_features_one_that_lacks_is_left_out(drawn: Any, rows: Any) -> None:
    weights, inputs = drawn(Gated(hidden=4), THREE), rows(THREE)
    inputs["b"][2] = torch.nan
    beside = torch.cat([x.nan_to_num() for x in inputs.values()], dim=1)
    first, third = (
        torch.sigmoid(linear(weights, f"gate.{name}", beside))
        * torch.tanh(linear(weights, f"encode.{name}", inputs[name]))
        for name in ("a", "c")
    )
    found = logits(weights, inputs)
    torch.testing.assert_close(found[2], classified(weights, first + third)[2], atol=1e-10, rtol=0)


def test_it_asks_for_what_lacks_unless_told_not_to() -> None:
    assert Gated().masked
    assert not Gated(missing="mean").masked


class TestGated(FusionTests):
    component = Gated(hidden=16, epochs=8, lr=1e-2)
    least = 0.9
