from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mercore.testing import FusionTests
from mercore_fusions import Lmf

LETTERS = "abc"


def encoded(weights: Any, name: str, x: Tensor) -> Tensor:
    """Return [z; 1]: three times linear and ReLU, and a one."""
    for layer in range(3):
        w, b = (weights[f"encoder.{name}.{layer}.{part}"] for part in ("weight", "bias"))
        x = torch.relu(x @ w.T + b)
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


@pytest.mark.parametrize("dims", [{"vit": 5}, {"vit": 5, "text": 6}, {"a": 4, "b": 5, "c": 6}])
def test_it_applies_the_weight_tensor_of_low_rank_written_out(
    dims: dict[str, int], drawn: Any, rows: Any
) -> None:
    """Equations (1) to (4): h is the whole tensor times the outer product of all [z; 1]."""
    fusion = Lmf(hidden=3, rank=2, output=4)
    weights, inputs = drawn(fusion, dims), rows(dims)
    tensor, axes = torch.zeros(4, *[4] * len(dims), dtype=torch.float64), LETTERS[: len(dims)]
    for i in range(2):
        factors = [
            torch.cat([weights[f"factor.{n}.weight"], weights[f"factor.{n}.bias"][:, None]], dim=1)[
                4 * i : 4 * i + 4
            ]
            for n in dims
        ]  # (output, hidden + 1) each
        tensor = tensor + torch.einsum(",".join(f"o{x}" for x in axes) + f"->o{axes}", *factors)
    z = [encoded(weights, name, x) for name, x in inputs.items()]
    h = torch.einsum(f"o{axes}," + ",".join(f"n{x}" for x in axes) + "->no", tensor, *z)
    expected = h @ weights["classify.weight"].T + weights["classify.bias"]
    found = fusion.logits(weights, inputs, lambda x: x)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert all(g.any() for g in torch.autograd.grad(found.square().sum(), [*weights.values()]))


class TestLmf(FusionTests):
    component = Lmf(hidden=16, rank=2, output=8, epochs=15, dropout=0.1, lr=1e-2)
    least = 0.9
