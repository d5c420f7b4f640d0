from __future__ import annotations

import numpy as np
import pytest
import torch

from mercore.components import Part
from mercore.nn._chance import balanced, balances, dropout


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    x = torch.ones(2, 1001, 101)
    dropped = dropout(0.3, [torch.Generator().manual_seed(seed) for seed in range(2)])(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    assert len(set(dropped.flatten().tolist())) == 2
    assert not torch.equal(dropped[0], dropped[1])
    assert dropout(0.0, [])(x) is x


def test_a_member_drops_the_same_whoever_is_beside_it() -> None:
    x = torch.ones(1, 7, 5)
    alone = dropout(0.5, [torch.Generator().manual_seed(4)])(x)
    beside = dropout(0.5, [torch.Generator().manual_seed(seed) for seed in (9, 4)])(
        x.repeat(2, 1, 1)
    )
    assert torch.equal(alone[0], beside[1])


def test_balanced_sampling_draws_every_class_as_often() -> None:
    labels = torch.tensor([0] * 90 + [2] * 9 + [5])
    drawn = labels[balanced(labels, torch.Generator().manual_seed(0))]
    assert sorted(torch.bincount(drawn)[[0, 2, 5]].tolist()) == [33, 33, 34]
    of_first = balanced(labels, torch.Generator().manual_seed(1))
    assert len(set(of_first[labels[of_first] == 0].tolist())) > 20


def test_balanced_weights_have_the_mean_1_over_the_samples() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3], np.int64)
    part = Part(np.arange(9), np.arange(0), 0)
    (weights,) = balances([part], labels, 4, "balanced").numpy()
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[3] == pytest.approx(6 * weights[0])
