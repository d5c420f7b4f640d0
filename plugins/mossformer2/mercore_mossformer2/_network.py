"""MossFormer2, computed fast: one recording ``(samples,)`` in, two out.

All tensors are ``(frames, channels)``. Two frames overlap by half; one is 1 ms at 8 kHz, 0.5 ms at
16 kHz. The weights are those that were published, multiplied together where nothing stands between
them: a norm's gain goes into the matrix behind it, matrices that read the same go side by side, and
what is added to a convolution goes into its middle tap.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mercore_mossformer2._layers import (
    Dense,
    Linear,
    Norm,
    Projection,
    Weights,
    behind,
    layer_normed,
    overlapped,
    under,
    whitened,
)

GROUP: Final = 256
"""Frames whose attention to each other is full; it is not among the weights."""
EPS: Final = 1e-8
"""Of the norms over the whole recording."""


class MossFormer2(nn.Module):
    """The whole network, built of published weights.

    Source: Zhao et al. 2024, "MossFormer2: combining transformer and RNN-free recurrent network for
    enhanced time-domain monaural speech separation", arXiv:2312.11825.
    """

    def __init__(self, weights: Weights, blocks: int) -> None:
        super().__init__()
        self.encoder = nn.Buffer(weights["enc.conv1d.weight"][:, 0])  # (channels, kernel)
        self.decoder = nn.Buffer(weights["dec.weight"][:, 0])  # (channels, kernel)
        self.masks = _Masks(under(weights, "mask_net."), blocks)

    def forward(self, audio: Tensor) -> Tensor:
        """Return ``(2, samples)`` of ``(samples,)``; samples behind the last frame give 0."""
        kernel = self.encoder.shape[1]
        frames = functional.linear(audio.unfold(0, kernel, kernel // 2), self.encoder).relu_()
        sources = [overlapped((frames * mask) @ self.decoder) for mask in self.masks(frames)]
        rest = len(audio) - len(sources[0])
        return functional.pad(torch.stack(sources), (0, rest))


class _Masks(nn.Module):
    def __init__(self, weights: Weights, blocks: int) -> None:
        super().__init__()
        into = weights["conv1d_encoder.weight"][..., 0]
        self.start = Linear(*behind(weights, "norm", into))
        self.scale = nn.Buffer(weights["pos_enc.scale"])
        self.turns = nn.Buffer(weights["pos_enc.inv_freq"])
        deep = "mdl.intra_mdl.mossformerM."
        self.blocks = nn.Sequential()
        for number in range(blocks):
            self.blocks.append(_Attention(under(weights, f"{deep}layers.{number}.")))
            self.blocks.append(_Memory(under(weights, f"{deep}fsmn.{number}.")))
        self.norm = Norm(weights, "mdl.intra_mdl.norm", 1e-6)
        self.gain, self.shift = (
            nn.Buffer(weights[f"mdl.intra_norm.{leaf}"]) for leaf in ("weight", "bias")
        )
        self.bend = nn.Buffer(weights["prelu.weight"])
        self.speakers = Linear(weights["conv1d_out.weight"][..., 0], weights["conv1d_out.bias"])
        self.gates = Linear(
            torch.cat([weights["output.0.weight"], weights["output_gate.0.weight"]])[..., 0],
            torch.cat([weights["output.0.bias"], weights["output_gate.0.bias"]]),
        )
        self.out = nn.Buffer(weights["conv1_decoder.weight"][..., 0])

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return a mask ``(frames, channels)`` a speaker."""
        start = self.start(whitened(frames, EPS)) + self._positions(len(frames))
        deep = whitened(self.norm(self.blocks(start)), EPS)
        summed = torch.addcmul(self.shift, deep, self.gain).add_(start)
        each = self.speakers(functional.prelu(summed, self.bend)).chunk(2, 1)
        return [self._mask(speaker) for speaker in each]

    def _positions(self, count: int) -> Tensor:
        times = torch.arange(count, device=self.turns.device, dtype=self.turns.dtype)
        angles = torch.outer(times, self.turns)
        return (torch.cat([angles.sin(), angles.cos()], 1) * self.scale).to(self.scale.dtype)

    def _mask(self, speaker: Tensor) -> Tensor:
        value, gate = self.gates(speaker).chunk(2, 1)
        return functional.linear(value.tanh() * gate.sigmoid(), self.out).relu_()


class _Attention(nn.Module):
    """A block of gated attention: full within a group, linear over the whole recording."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.hidden = Projection(weights, "to_hidden", "to_qk")
        self.out = Projection(weights, "to_out")
        self.gain = nn.Buffer(weights["qk_offset_scale.gamma"])  # (4, width)
        self.shift = nn.Buffer(weights["qk_offset_scale.beta"])
        self.turns = nn.Buffer(weights["rotary_pos_emb.freqs"])

    def forward(self, x: Tensor) -> Tensor:
        half = -(-x.shape[1] // 2)
        before = functional.pad(x[:-1, :half], (0, 0, 1, 0))
        hidden = self.hidden(torch.cat([before, x[:, half:]], 1))
        width = self.gain.shape[1]
        values, both = hidden[:, :-width], hidden[:, -width:]  # values: v and u side by side
        near_q, far_q, near_k, far_k = self._turned(both).unbind(1)
        far = (far_k.T / len(x)) @ values  # (width, 2 channels)
        gated = x.new_empty(len(x), values.shape[1] // 2)
        for start in range(0, len(x), GROUP):
            own = slice(start, start + GROUP)
            near = (near_q[own] @ (near_k[own].T / GROUP)).relu_().square_()
            seen = torch.addmm(far_q[own] @ far, near, values[own])
            _gate(seen, values[own], gated[own])
        changed: Tensor = self.out(gated)
        return changed.add_(x)

    def _turned(self, both: Tensor) -> Tensor:
        """Return queries and keys ``(frames, 4, width)``, turned by their position."""
        four = torch.addcmul(self.shift, both[:, None], self.gain)
        times = torch.arange(len(both), device=both.device, dtype=self.turns.dtype)
        angles = torch.outer(times, self.turns)[:, None]
        cos, sin = angles.cos().to(both.dtype), angles.sin().to(both.dtype)
        pairs = four[..., : 2 * len(self.turns)]
        even, odd = pairs[..., ::2].clone(), pairs[..., 1::2].clone()
        pairs[..., ::2] = even * cos - odd * sin
        pairs[..., 1::2] = odd * cos + even * sin
        return four


def _gate(seen: Tensor, values: Tensor, out: Tensor) -> None:
    """Put ``(att_u * v) * sigmoid(att_v * u)`` into `out`."""
    (seen_v, seen_u), (v, u) = seen.chunk(2, 1), values.chunk(2, 1)
    torch.mul(seen_u.mul_(v), seen_v.mul_(u).sigmoid_(), out=out)


class _Memory(nn.Module):
    """A block of gated dilated convolutions: the recurrent module without a recurrence (FSMN)."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.into = Linear(weights["conv1.0.weight"][..., 0], weights["conv1.0.bias"])
        self.bend = nn.Buffer(weights["conv1.1.weight"])
        self.norm = Norm(weights, "norm1", 1e-5)
        self.gates = Projection(under(weights, "gated_fsmn."), "to_u", "to_v")
        fsmn = under(weights, "gated_fsmn.fsmn.")
        self.expand = Linear(fsmn["linear.weight"], fsmn["linear.bias"])
        self.project = nn.Buffer(fsmn["project.weight"])
        self.near = Dense(fsmn, 1)
        self.far = Dense(fsmn, 2)
        out = weights["conv2.weight"][..., 0]
        self.out = Linear(*behind(weights, "norm2", out, weights["conv2.bias"]))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(functional.prelu(self.into(x), self.bend))
        u, v = self.gates(inner).chunk(2, 1)
        memory = functional.linear(self.expand(u).relu_(), self.project)
        # A group of the second reads two channels that lie side by side: the even ones first.
        both = self.near(memory), memory
        memory = self.far(torch.cat([part[:, odd::2] for odd in (0, 1) for part in both], 1))
        gated = torch.addcmul(inner, v, memory.add_(u))
        changed: Tensor = self.out(layer_normed(gated))
        return changed.add_(x)
