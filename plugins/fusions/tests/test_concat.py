from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mercore.testing import FusionTests
from mercore_fusions import Concat

DIMS = {"hubert": 7, "vit": 5, "text": 6}


def test_the_network_is_a_perceptron_on_the_features_side_by_side(drawn: Any, rows: Any) -> None:
    fusion = Concat(hidden=4, layers=2)
    weights, inputs = drawn(fusion, DIMS), rows(DIMS)
    reference = nn.Sequential(
        nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
    ).double()
    reference.load_state_dict(
        {
            f"{place}.{part}": weights[f"{name}.{part}"]
            for place, name in ((0, "hidden.0"), (2, "hidden.1"), (4, "classify"))
            for part in ("weight", "bias")
        }
    )
    found = fusion.logits(weights, inputs, lambda x: x)
    torch.testing.assert_close(
        found, reference(torch.cat([*inputs.values()], 1)), atol=1e-10, rtol=0
    )
    assert all(g.any() for g in torch.autograd.grad(found.square().sum(), [*weights.values()]))


class TestConcat(FusionTests):
    component = Concat(hidden=16, epochs=8, lr=1e-2)
    least = 0.9
