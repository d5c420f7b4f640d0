from __future__ import annotations

from typing import Any

import pytest
import torch
from network_checks import check, rows
from torch import Tensor

from mercore.errors import RunError
from mercore.testing import FusionTests
from mercore_fusions import Tfn

SMALL = Tfn(hidden=3, inference=4)


def stacked(weights: dict[str, Tensor], name: str, layers: int, x: Tensor) -> Tensor:
    for layer in range(layers):
        w, b = (weights[f"{name}.{layer}.{part}"] for part in ("weight", "bias"))
        x = torch.relu(x @ w.T + b)
    return x


def reference(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    parts = []
    for name, x in inputs.items():
        z = stacked(weights, f"encoder.{name}", 3, x.nan_to_num())
        z = torch.where(x[:, :1].isnan(), 0.0, z)
        parts.append(torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1))
    axes = "abcd"[: len(inputs)]
    product = torch.einsum(",".join(f"n{x}" for x in axes) + f"->n{axes}", *parts)
    x = stacked(weights, "inference", 2, product.flatten(1))
    return x @ weights["classify.weight"].T + weights["classify.bias"]


@pytest.mark.parametrize(
    "dims", [{"vit": 5}, {"vit": 5, "text": 6}, {"a": 4, "b": 5, "c": 6, "d": 3}]
)
def test_it_infers_from_the_outer_product(dims: dict[str, int]) -> None:
    check(SMALL, rows(dims), reference)


def test_a_feature_that_a_sample_lacks_leaves_the_products_of_the_others() -> None:
    dims = {"a": 4, "b": 5, "c": 6}
    inputs = rows(dims)
    inputs["b"][:, 2] = torch.nan
    check(SMALL, inputs, reference)


def test_a_product_too_large_is_refused_with_the_width_that_is_not() -> None:
    def parameters(hidden: int, features: str) -> Any:
        fusion = Tfn(hidden=hidden, inference=1)
        return fusion.network().parameters(dict.fromkeys(features, 2), 3)

    message = r"hidden=64 and 3 features make a product of 274,625 values a sample, expected up to "
    with pytest.raises(RunError, match=message + r"262,144; use hidden=63 or less, or 'lmf'"):
        parameters(64, "abc")
    assert parameters(63, "abc")["inference.0.weight"].shape == (1, 262_144)
    with pytest.raises(RunError, match="use hidden=511 or less"):
        parameters(512, "ab")
    with pytest.raises(RunError, match="use hidden=21 or less"):
        parameters(22, "abcd")
    with pytest.raises(RunError, match=r"found 5 features, a, b, c, d, e; expected up to 4.*lmf"):
        parameters(1, "abcde")


class TestTfn(FusionTests):
    component = Tfn(hidden=4, inference=16, epochs=8, dropout=0.0, lr=2e-2)
    least = 0.8
