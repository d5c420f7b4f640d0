"""The hidden states of a run, as one list, and what the options make of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mercore.errors import RegistryError
from mercore.nn import chosen
from mercore_transformers.options import Layered


def reduced(output: Any, options: Layered) -> Tensor:
    """Return the combined hidden states, ``(batch, rows, dim)`` float32.

    The last one is the network's output, as it returns it; the others are as the library collects
    them. Feature maps ``(batch, dim, height, width)`` become a row a place. Raises RegistryError
    for layers that the network does not have or that cannot be combined.
    """
    states = [*(output.hidden_states or ())[:-1], output.last_hidden_state]
    numbers = chosen(options.layers, len(states) - 1, options.name)
    picked = [_as_rows(states[number]).float() for number in numbers]
    shapes = {tuple(state.shape[1:]) for state in picked}
    lengths = {length for length, _ in shapes}
    if len(lengths) > 1 or (len(shapes) > 1 and options.reduce != "concat"):
        raise RegistryError(
            f"{options.name}: option 'layers' {list(options.layers)!r} names hidden states of the "
            f"shapes {sorted(shapes)} (rows, width), which cannot be combined by reduce: "
            f"{options.reduce}; name one of them"
        )
    if options.reduce == "concat":
        return torch.cat(picked, -1)
    total = torch.stack(picked).sum(0) if len(picked) > 1 else picked[0]
    return total if options.reduce == "sum" else total / len(picked)


def _as_rows(state: Tensor) -> Tensor:
    return state.flatten(2).transpose(1, 2) if state.dim() == 4 else state
