from __future__ import annotations

import pytest
import torch
from network_checks import check, rows
from torch import Tensor

from mercore.testing import FusionTests
from mercore_fusions import Lmf

SMALL = Lmf(hidden=3, rank=2, output=4)


def with_one(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Return [z; 1]: three times linear and ReLU, 0 for what lacks, and a one."""
    z = x.nan_to_num()
    for layer in range(3):
        w, b = (weights[f"encoder.{name}.{layer}.{part}"] for part in ("weight", "bias"))
        z = torch.relu(z @ w.T + b)
    z = torch.where(x[:, :1].isnan(), 0.0, z)
    return torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)


def reference(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    """Return what the weight tensor, written out, makes of the outer product of all [z; 1]."""
    axes = "abc"[: len(inputs)]
    tensor = torch.zeros(4, *[4] * len(inputs), dtype=torch.float64)  # output, hidden + 1, ...
    for i in range(2):
        factors = []
        for name in inputs:
            w, b = (weights[f"factor.{name}.{part}"] for part in ("weight", "bias"))
            factors.append(torch.cat([w, b[:, None]], dim=1)[4 * i : 4 * i + 4])
        tensor = tensor + torch.einsum(",".join(f"o{x}" for x in axes) + f"->o{axes}", *factors)
    z = [with_one(weights, name, x) for name, x in inputs.items()]
    h = torch.einsum(f"o{axes}," + ",".join(f"n{x}" for x in axes) + "->no", tensor, *z)
    return h @ weights["classify.weight"].T + weights["classify.bias"]


@pytest.mark.parametrize("dims", [{"vit": 5}, {"vit": 5, "text": 6}, {"a": 4, "b": 5, "c": 6}])
def test_it_applies_the_weight_tensor_of_low_rank(dims: dict[str, int]) -> None:
    check(SMALL, rows(dims), reference)


def test_a_feature_that_a_sample_lacks_leaves_the_products_of_the_others() -> None:
    dims = {"a": 4, "b": 5, "c": 6}
    inputs = rows(dims)
    inputs["b"][:, 2] = torch.nan
    check(SMALL, inputs, reference)


class TestLmf(FusionTests):
    component = Lmf(hidden=16, rank=2, output=8, epochs=8, dropout=0.1, lr=2e-2)
    least = 0.8
