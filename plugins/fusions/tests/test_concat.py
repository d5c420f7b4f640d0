from __future__ import annotations

import torch
from network_checks import check, rows
from torch import Tensor, nn

from mercore.testing import FusionTests
from mercore_fusions import Concat

DIMS = {"hubert": 7, "vit": 5, "text": 6}
SMALL = Concat(hidden=4, layers=2)


def reference(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    perceptron = nn.Sequential(
        nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
    ).double()
    perceptron.load_state_dict(
        {
            f"{place}.{part}": weights[f"{name}.{part}"]
            for place, name in ((0, "hidden.0"), (2, "hidden.1"), (4, "classify"))
            for part in ("weight", "bias")
        }
    )
    found: Tensor = perceptron(torch.cat([x.nan_to_num() for x in inputs.values()], dim=1))
    return found


def test_the_network_is_a_perceptron_on_the_features_side_by_side() -> None:
    check(SMALL, rows(DIMS), reference)


def test_a_feature_that_a_sample_lacks_is_0() -> None:
    inputs = rows(DIMS)
    inputs["vit"][:, 2] = torch.nan
    check(SMALL, inputs, reference)


class TestConcat(FusionTests):
    component = Concat(hidden=16, epochs=5, lr=2e-2, mask=True)
    least = 0.8
