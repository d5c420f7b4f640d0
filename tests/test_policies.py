"""What a policy trains: which blocks, at which rates, in which types."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mercore.errors import RunError
from mercore.nn import freed, frozen_dtype, merged, rated
from mercore.tuning import Policy, trained_blocks


class Net(nn.Module):
    """Three blocks with a norm behind, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"query": nn.Linear(4, 4), "inner": nn.Linear(4, 4)}) for _ in range(3)
        )
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            x = x + block["inner"](torch.tanh(block["query"](x)))
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def trained(train: str) -> set[str]:
    net = Net()
    freed(net, Policy(train=train), net.blocks, attention=("query",), behind=net.norm)
    return {".".join(n.split(".")[:2]) for n, p in net.named_parameters() if p.requires_grad}


def test_which_blocks_are_trained_and_the_norm_with_the_last() -> None:
    assert trained("last-2") == {"blocks.1", "blocks.2", "norm.weight", "norm.bias"}
    assert trained("0-1") == {"blocks.0", "blocks.1"}
    assert trained("head") == set()
    assert trained("all") >= {"blocks.0", "norm.weight", "head.bias"}
    assert [len(trained_blocks(train, 3)) for train in ("all", "head", "lora")] == [3, 0, 0]


@pytest.mark.parametrize("train", ["last-4", "1-3", "2-1"])
def test_blocks_that_are_not_there_are_refused(train: str) -> None:
    with pytest.raises(RunError, match=f"train: {train}: the network has 3 blocks, 0 to 2"):
        trained_blocks(train, 3)


@pytest.mark.parametrize("train", ["", "last", "last-0", "none", "1-", "all "])
def test_other_words_are_refused(train: str) -> None:
    with pytest.raises(ValidationError, match="expected all, head, lora, last-N"):
        Policy(train=train)


@pytest.mark.parametrize(("layers", "matrices"), [("attention", 3), ("all", 6)])
def test_what_lora_adds_is_float32_and_merged_gives_the_same(layers: str, matrices: int) -> None:
    torch.manual_seed(0)
    policy = Policy.model_validate({"train": "lora", "lora_rank": 2, "lora_layers": layers})
    net = Net().to(torch.bfloat16)
    freed(net, policy, net.blocks, attention=("query",), behind=net.norm)
    added = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    assert len(added) == 2 * matrices
    assert {p.dtype for _, p in added} == {torch.float32}
    with torch.no_grad():
        for _, parameter in added:
            parameter.normal_(std=0.3)
    net.float()
    own = Net()
    own.load_state_dict(merged(net.state_dict(), policy))
    x = torch.randn(5, 4)
    assert torch.allclose(own(x), net(x), rtol=0, atol=1e-5)


def test_what_is_new_learns_at_the_whole_rate_and_only_matrices_decay() -> None:
    groups = rated(Net(), Policy(pretrained_rate=0.25))
    found = {(len(group.parameters), group.rate, group.decays) for group in groups}
    assert found == {(6, 0.25, True), (8, 0.25, False), (1, 1.0, True), (1, 1.0, False)}


def test_what_is_trained_whole_is_float32_and_what_is_frozen_as_it_is_multiplied() -> None:
    assert frozen_dtype("all", "bfloat16") == torch.float32
    assert frozen_dtype("lora", "bfloat16") == torch.bfloat16
    assert frozen_dtype("last-2", "float32") == torch.float32
