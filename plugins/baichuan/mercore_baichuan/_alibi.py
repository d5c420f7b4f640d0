"""Positions of the 13B models: attention with linear biases (Press et al. 2022)."""

from __future__ import annotations

import torch
from torch import nn

_STEP = 128  # tokens; a multiple of 16, as CUDA's kernels ask of the strides of a bias


def slopes(heads: int) -> list[float]:
    """Return how fast attention falls off with the distance, head by head.

    For a power of two a geometric series from ``2 ** (-8 / heads)`` down to 1/256. For another
    number the series of the power of two below it, then every other term of the one above it.
    """
    power = 1 << (heads.bit_length() - 1)
    series = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    return series + [2.0 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]


class Alibi:
    """The causal bias of attention; made for the longest text seen so far, shared by all others."""

    def __init__(self, heads: int, dtype: torch.dtype, device: str) -> None:
        self._slopes = slopes(heads)
        self._dtype, self._device = dtype, device
        self._bias = self._made(0)

    def __call__(self, length: int) -> torch.Tensor:
        """Return ``(1, heads, length, length)``: slope times distance, -inf for what comes after.

        It is a view, and serves a batch of any size.
        """
        if length > self._bias.shape[-1]:
            self._bias = self._made(0)  # let go of it first
            self._bias = self._made(-(-length // _STEP) * _STEP)
        return self._bias[:, :, :length, :length]

    def _made(self, size: int) -> torch.Tensor:
        positions = torch.arange(size, device=self._device, dtype=torch.float32)
        distance = positions[None, :] - positions[:, None]  # (query, key)
        distance.masked_fill_(distance > 0, -torch.inf)
        bias = torch.empty(
            (1, len(self._slopes), size, size), dtype=self._dtype, device=self._device
        )
        # A head after the other: the whole in float32 would be twice as large as the result.
        for head, slope in enumerate(self._slopes):
            bias[0, head] = distance * slope
        return bias


class NoRotation(nn.Module):
    """Stands in for rotary positions: turns nothing."""

    def forward(
        self, states: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosine 1 and sine 0 for all positions, ``(1, 1, 1)`` each."""
        one = states.new_ones((1, 1, 1))
        return one, torch.zeros_like(one)
