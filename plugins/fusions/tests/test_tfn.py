from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mercore.errors import RunError
from mercore.testing import FusionTests
from mercore_fusions import Tfn


def layers(weights: Any, prefix: str, count: int, x: Tensor) -> Tensor:
    for layer in range(count):
        x = torch.relu(
            x @ weights[f"{prefix}.{layer}.weight"].T + weights[f"{prefix}.{layer}.bias"]
        )
    return x


@pytest.mark.parametrize(
    "dims", [{"vit": 5}, {"vit": 5, "text": 6}, {"a": 4, "b": 5, "c": 6, "d": 3}]
)
def test_it_infers_from_the_outer_product(dims: dict[str, int], drawn: Any, rows: Any) -> None:
    fusion = Tfn(hidden=3, inference=4)
    weights, inputs = drawn(fusion, dims), rows(dims)
    z = []
    for name, x in inputs.items():
        encoded = layers(weights, f"encoder.{name}", 3, x)
        z.append(torch.cat([encoded, torch.ones(5, 1, dtype=x.dtype)], dim=1))
    axes = "abcd"[: len(dims)]
    product = torch.einsum(",".join(f"n{x}" for x in axes) + f"->n{axes}", *z)
    x = layers(weights, "inference", 2, product.flatten(1))
    expected = x @ weights["classify.weight"].T + weights["classify.bias"]
    found = fusion.logits(weights, inputs, lambda x: x)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert all(g.any() for g in torch.autograd.grad(found.square().sum(), [*weights.values()]))


def test_a_product_too_large_is_refused_with_the_width_that_is_not() -> None:
    dims = {"a": 4, "b": 5, "c": 6}
    message = r"hidden=64 and 3 features make a product of 274,625 values a sample, expected up to "
    with pytest.raises(RunError, match=message + r"262,144; use hidden=63 or less, or 'lmf'"):
        Tfn(hidden=64).shapes(dims, 3)
    assert Tfn(hidden=63, inference=1).shapes(dims, 3)["inference.0.weight"] == (1, 262_144)
    with pytest.raises(RunError, match="use hidden=511 or less"):
        Tfn(hidden=512).shapes({"a": 4, "b": 5}, 3)
    with pytest.raises(RunError, match="use hidden=21 or less"):
        Tfn(hidden=22).shapes(dims | {"d": 1}, 3)


def test_more_than_four_features_are_refused() -> None:
    with pytest.raises(RunError, match=r"found 5 features, a, b, c, d, e; expected up to 4(.)*lmf"):
        Tfn(hidden=1).shapes(dict.fromkeys("abcde", 2), 3)


class TestTfn(FusionTests):
    component = Tfn(hidden=4, inference=16, epochs=15, dropout=0.0, lr=1e-2)
    least = 0.9
