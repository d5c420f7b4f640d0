"""Hidden states of some layers, added up while the model runs; none is kept beside the sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn

from mercore.errors import RegistryError


def chosen(layers: Iterable[int], depth: int, who: str) -> tuple[int, ...]:
    """Return the layers as numbers from 0 (what the first block reads) to `depth` (the last's).

    Negative numbers count from the last, -1. The greatest one returned is how many blocks have to
    be built at all. Raises RegistryError for a layer that the model does not have, or given twice.
    """
    given = tuple(layers)
    wrong = [layer for layer in given if not -depth <= layer + 1 <= depth + 1]
    if wrong:
        raise RegistryError(
            f"{who}: option 'layers' names {wrong!r}, but the checkpoint has the hidden states 0 "
            f"to {depth}; negative numbers count from the last"
        )
    numbers = sorted({layer % (depth + 1) for layer in given})
    if len(numbers) < len(given):
        raise RegistryError(f"{who}: option 'layers' {list(given)!r} names a hidden state twice")
    return tuple(numbers)


class HiddenStates:
    """Adds up the hidden states of the layers chosen, in float32, each time the model runs.

    Number 0 is what the first of `blocks` reads, k what the k-th gives. `final`, where there is
    one, is the norm behind the last block, and its output then counts as number `depth`, as
    published features take it; for a stack that was cut short it is not run at all.
    """

    def __init__(
        self,
        blocks: nn.ModuleList | nn.Sequential,
        layers: Sequence[int],
        reduce: Literal["mean", "sum"],
        *,
        depth: int,
        final: nn.Module | None = None,
    ) -> None:
        self._total: torch.Tensor | None = None
        self._scale = 1.0 if reduce == "sum" else 1 / len(layers)
        for layer in layers:
            # The lowest starts anew: a run before may have ended in the middle, out of memory.
            add = self._start if layer == min(layers) else self._add
            if layer == 0:
                blocks[0].register_forward_pre_hook(lambda _, inputs, add=add: add(inputs[0]))
                continue
            block = final if layer == depth and final is not None else blocks[layer - 1]
            block.register_forward_hook(lambda _, _inputs, output, add=add: add(output))

    def take(self) -> torch.Tensor:
        """Return the reduced hidden states of the last run, ``(batch, frames, dim)`` float32."""
        total, self._total = self._total, None
        assert total is not None, "the model did not run"
        return total * self._scale

    def _start(self, state: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        # Copied: what runs next may change it in place.
        self._total = _tensor(state).float().clone()

    def _add(self, state: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        assert self._total is not None
        self._total = self._total + _tensor(state).float()


def _tensor(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the hidden states; some blocks give more beside them."""
    return output[0] if isinstance(output, tuple) else output
