"""CT-Transformer's network: an encoder with memory (SAN-M) that says which mark follows a word.

Modules are named as in the published weights.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

EPS: Final = 1e-12
"""Of the layer norms."""


class Sizes(BaseModel):
    """``encoder_conf`` of config.yaml."""

    input_size: int = Field(gt=0)
    output_size: int = Field(default=256, gt=0)
    attention_heads: int = Field(default=4, gt=0)
    linear_units: int = Field(default=2048, gt=0)
    num_blocks: int = Field(default=6, gt=0)
    kernel_size: int = Field(default=11, gt=0)
    sanm_shfit: int = Field(default=0, ge=0)  # spelt so
    input_layer: Literal["pe"]
    selfattention_layer_type: Literal["sanm"] = "sanm"
    normalize_before: Literal[True] = True
    concat_after: Literal[False] = False

    @model_validator(mode="after")
    def _they_fit(self) -> Sizes:
        if self.output_size % self.attention_heads:
            raise ValueError(
                f"attention_heads is {self.attention_heads}, which does not divide the output_size "
                f"{self.output_size}"
            )
        if self.input_size % 2 or self.input_size < 4:
            raise ValueError(f"input_size is {self.input_size}, expected an even number above 2")
        if self.before >= self.kernel_size:
            raise ValueError(
                f"sanm_shfit is {self.sanm_shfit}, expected less than half of the kernel_size "
                f"{self.kernel_size}"
            )
        return self

    @property
    def before(self) -> int:
        """How many words the memory looks back."""
        return (self.kernel_size - 1) // 2 + self.sanm_shfit


class Punctuation(nn.Module):
    """From words ``(batch, words)`` to the scores of the marks, ``(batch, words, classes)``.

    The lengths, ``(batch,)``, say how many words of each row are no padding.
    """

    def __init__(self, sizes: Sizes, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, sizes.input_size)
        self.encoder = _Encoder(sizes)
        self.decoder = nn.Linear(sizes.output_size, classes)

    def forward(self, words: Tensor, lengths: Tensor | None = None) -> Tensor:
        mask = None
        if lengths is not None:
            mask = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        scores: Tensor = self.decoder(self.encoder(self.embed(words), mask))
        return scores


class _Encoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.scale = sizes.output_size**0.5
        # The first block may change the width.
        self.encoders0 = nn.ModuleList([_Block(sizes.input_size, sizes)])
        others = range(sizes.num_blocks - 1)
        self.encoders = nn.ModuleList([_Block(sizes.output_size, sizes) for _ in others])
        self.after_norm = nn.LayerNorm(sizes.output_size, EPS)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x * self.scale + _positions(x)  # (batch, words, width)
        for block in (*self.encoders0, *self.encoders):
            x = block(x, mask)
        normed: Tensor = self.after_norm(x)
        return normed


def _positions(x: Tensor) -> Tensor:
    """Return the sines and cosines of the positions 1, 2, ..., ``(words, width)``.

    In float32 whatever `x` is: bfloat16 does not know 257.
    """
    half = x.shape[-1] // 2
    steps = torch.arange(half, device=x.device, dtype=torch.float32)
    rates = torch.exp(steps * -(math.log(10_000) / (half - 1)))
    places = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float32)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1).to(x.dtype)


class _Block(nn.Module):
    def __init__(self, width: int, sizes: Sizes) -> None:
        super().__init__()
        self.same = width == sizes.output_size
        self.self_attn = _Attention(width, sizes)
        self.feed_forward = _FeedForward(sizes)
        self.norm1 = nn.LayerNorm(width, EPS)
        self.norm2 = nn.LayerNorm(sizes.output_size, EPS)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.self_attn(self.norm1(x), mask)
        x = x + attended if self.same else attended
        fed: Tensor = x + self.feed_forward(self.norm2(x))
        return fed


class _FeedForward(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.w_1 = nn.Linear(sizes.output_size, sizes.linear_units)
        self.w_2 = nn.Linear(sizes.linear_units, sizes.output_size)

    def forward(self, x: Tensor) -> Tensor:
        fed: Tensor = self.w_2(self.w_1(x).relu_())
        return fed


class _Attention(nn.Module):
    """Attention, and beside it a memory: a filter over time on each channel of the values."""

    def __init__(self, width: int, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.attention_heads
        self.around = sizes.before, sizes.kernel_size - 1 - sizes.before
        out, kernel = sizes.output_size, sizes.kernel_size
        self.linear_q_k_v = nn.Linear(width, 3 * out)
        self.linear_out = nn.Linear(out, out)
        self.fsmn_block = nn.Conv1d(out, out, kernel, groups=out, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, values = self.linear_q_k_v(x).chunk(3, -1)  # (batch, words, width) each
        seen = None if mask is None else mask[:, None, None]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, values))
        heads = functional.scaled_dot_product_attention(q, k, v, seen)
        attended: Tensor = self.linear_out(heads.transpose(1, 2).flatten(-2))
        return attended + self.memory(values if mask is None else values * mask[..., None])

    def memory(self, values: Tensor) -> Tensor:
        """Return ``(batch, words, width)`` filtered, and itself.

        A sum over the few taps: torch's own convolution of single channels takes three times as
        long on a CPU, and ten times for a batch.
        """
        taps = self.fsmn_block.weight[:, 0].T  # (kernel, width)
        wide = functional.pad(values, (0, 0, *self.around))
        total = values.clone()
        for place, tap in enumerate(taps):
            total.addcmul_(wide[:, place : place + values.shape[1]], tap)
        return total
