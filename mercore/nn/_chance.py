"""What chance and the frequencies of classes decide in a training, a generator a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mercore.components import IntArray, Part
from mercore.nn._network import Drop, Parameter


def initial(
    parameters: Mapping[str, Parameter], generators: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Return random weights, ``(members, ...)``, each member's from its own generator."""
    return {
        name: torch.stack(
            [_drawn(parameter, generator) for generator in generators]
        ).requires_grad_()
        for name, parameter in parameters.items()
    }


def _drawn(parameter: Parameter, generator: torch.Generator) -> Tensor:
    empty = torch.empty(parameter.shape, device=generator.device)
    low, high = parameter.centre - parameter.bound, parameter.centre + parameter.bound
    return empty.uniform_(low, high, generator=generator)


def dropout(share: float, generators: Sequence[torch.Generator]) -> Drop:
    """Return inverted dropout, a generator a member; `share` is met to 1 in 65,536.

    16 random bits decide on a number, so one draw serves four: torch's own dropout takes eight
    times as long, and would be the largest part of a step.
    """
    dropped = round(share * 2**16)
    if dropped == 0:
        return lambda x: x

    def drop(x: Tensor) -> Tensor:
        numbers = x[0].numel()
        words = torch.empty(len(x), -(-numbers // 4), dtype=torch.int64, device=x.device)
        for row, generator in zip(words, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        bits = words.view(torch.int16)[:, :numbers].reshape(x.shape)
        kept = torch.ge(bits, dropped - 2**15, out=torch.empty(x.shape, device=x.device))
        return x * kept.mul_(2**16 / (2**16 - dropped))

    return drop


def balances(parts: Sequence[Part], labels: IntArray, classes: int, how: str) -> Tensor:
    """Return ``(parts, classes)`` weights whose mean over the training samples of each is 1."""
    return torch.stack([_balance(labels[part.train], classes, how) for part in parts])


def _balance(labels: IntArray, classes: int, how: str) -> Tensor:
    if how == "none":
        return torch.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * counts.clip(1))
    return torch.from_numpy(weights.astype(np.float32))


def balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many indices as there are labels, the same number of each class within one."""
    present, device = torch.unique(labels), generator.device
    turns = torch.randperm(len(present), generator=generator, device=device)
    chosen = present[turns][torch.arange(len(labels), device=device) % len(present)]
    draws = torch.empty(len(labels), device=device).uniform_(generator=generator)
    indices = torch.empty(len(labels), dtype=torch.int64, device=device)
    for label in present:
        places, members = (chosen == label).nonzero()[:, 0], (labels == label).nonzero()[:, 0]
        indices[places] = members[
            (draws[places] * len(members)).long().clamp_(max=len(members) - 1)
        ]
    return indices
