"""MossFormer2, computed fast: one recording ``(samples,)`` in, two out.

All tensors are ``(frames, channels)``. Two frames overlap by half; one is 1 ms at 8 kHz, 0.5 ms at
16 kHz. The weights are those that were published, multiplied together where nothing stands between
them: a norm's gain goes into the matrix behind it, matrices that read the same go side by side, and
what is added to a convolution goes into its middle tap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]
"""Weights by their published names, those of a part without what they share."""

GROUP: Final = 256
"""Frames whose attention to each other is full; it is not among the weights."""
EPS: Final = 1e-8
"""Of the norms over the whole recording."""
TILE: Final = 2**19
"""Numbers that are worked on together on a CPU: 2 MB in float32."""


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
        sources = [_overlapped((frames * mask) @ self.decoder) for mask in self.masks(frames)]
        rest = len(audio) - len(sources[0])
        return functional.pad(torch.stack(sources), (0, rest))


class _Masks(nn.Module):
    def __init__(self, weights: Weights, blocks: int) -> None:
        super().__init__()
        into = weights["conv1d_encoder.weight"][..., 0]
        self.start = _Linear(*_behind(weights, "norm", into))
        self.scale = nn.Buffer(weights["pos_enc.scale"])
        self.turns = nn.Buffer(weights["pos_enc.inv_freq"])
        deep = "mdl.intra_mdl.mossformerM."
        self.blocks = nn.Sequential()
        for number in range(blocks):
            self.blocks.append(_Attention(under(weights, f"{deep}layers.{number}.")))
            self.blocks.append(_Memory(under(weights, f"{deep}fsmn.{number}.")))
        self.norm = _Norm(weights, "mdl.intra_mdl.norm", 1e-6)
        self.gain, self.shift = (
            nn.Buffer(weights[f"mdl.intra_norm.{leaf}"]) for leaf in ("weight", "bias")
        )
        self.bend = nn.Buffer(weights["prelu.weight"])
        self.speakers = _Linear(weights["conv1d_out.weight"][..., 0], weights["conv1d_out.bias"])
        self.gates = _Linear(
            torch.cat([weights["output.0.weight"], weights["output_gate.0.weight"]])[..., 0],
            torch.cat([weights["output.0.bias"], weights["output_gate.0.bias"]]),
        )
        self.out = nn.Buffer(weights["conv1_decoder.weight"][..., 0])

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return a mask ``(frames, channels)`` a speaker."""
        start = self.start(_whitened(frames, EPS)) + self._positions(len(frames))
        deep = _whitened(self.norm(self.blocks(start)), EPS)
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
        self.hidden = _Projection(weights, "to_hidden", "to_qk")
        self.out = _Projection(weights, "to_out")
        self.gain = nn.Buffer(weights["qk_offset_scale.gamma"])  # (4, width)
        self.shift = nn.Buffer(weights["qk_offset_scale.beta"])
        self.turns = nn.Buffer(weights["rotary_pos_emb.freqs"])

    def forward(self, x: Tensor) -> Tensor:
        half = -(-x.shape[1] // 2)
        before = functional.pad(x[:-1, :half], (0, 0, 1, 0))
        hidden = self.hidden(_of_length_one(torch.cat([before, x[:, half:]], 1)))
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
        return self.out(_of_length_one(gated)).add_(x)

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
        self.into = _Linear(weights["conv1.0.weight"][..., 0], weights["conv1.0.bias"])
        self.bend = nn.Buffer(weights["conv1.1.weight"])
        self.norm = _Norm(weights, "norm1", 1e-5)
        self.gates = _Projection(under(weights, "gated_fsmn."), "to_u", "to_v")
        fsmn = under(weights, "gated_fsmn.fsmn.")
        self.expand = _Linear(fsmn["linear.weight"], fsmn["linear.bias"])
        self.project = nn.Buffer(fsmn["project.weight"])
        self.near = _Dense(fsmn, 1)
        self.far = _Dense(fsmn, 2)
        out = weights["conv2.weight"][..., 0]
        self.out = _Linear(*_behind(weights, "norm2", out, weights["conv2.bias"]))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(functional.prelu(self.into(x), self.bend))
        u, v = self.gates(_layer_normed(inner, 1e-5)).chunk(2, 1)
        memory = functional.linear(self.expand(u).relu_(), self.project)
        # A group of the second reads two channels that lie side by side: the even ones first.
        both = self.near(memory), memory
        memory = self.far(torch.cat([x[:, odd::2] for odd in (0, 1) for x in both], 1))
        gated = torch.addcmul(inner, v, memory.add_(u))
        return self.out(_layer_normed(gated, 1e-5)).add_(x)


class _Dense(nn.Module):
    """A dilated convolution, an instance norm and a PReLU; `number` counts from 1.

    Each channel out is the sum of `number` channels in; the first of all come first, and so on.
    """

    def __init__(self, weights: Weights, number: int) -> None:
        super().__init__()
        taps = weights[f"conv.conv{number}.weight"][..., 0]  # (out, number, taps)
        self.conv = _Depthwise(taps.transpose(0, 1).flatten(0, 1), dilation=2 ** (number - 1))
        self.number = number
        self.gain = nn.Buffer(weights[f"conv.norm{number}.weight"])
        self.shift = nn.Buffer(weights[f"conv.norm{number}.bias"])
        self.bend = nn.Buffer(weights[f"conv.prelu{number}.weight"])

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.conv(x).chunk(self.number, 1)
        y = _whitened(sum(others, first), 1e-5, over=0)
        return functional.prelu(torch.addcmul(self.shift, y, self.gain), self.bend)


class _Projection(nn.Module):
    """A matrix, SiLU and a convolution over time with a way around; several side by side.

    The norm before the matrix is in it but for its division.
    """

    def __init__(self, weights: Weights, *names: str) -> None:
        super().__init__()
        matrices = [
            _behind(
                weights,
                f"{name}.mdl.0",
                weights[f"{name}.mdl.1.weight"],
                weights[f"{name}.mdl.1.bias"],
            )
            for name in names
        ]
        self.linear = _Linear(*map(torch.cat, zip(*matrices, strict=True)))
        taps = torch.cat([weights[f"{name}.mdl.3.sequential.1.conv.weight"] for name in names])
        taps = taps[:, 0].clone()
        taps[:, taps.shape[1] // 2] += 1
        self.conv = _Depthwise(taps)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.silu(self.linear(x), inplace=True))


class _Depthwise(nn.Module):
    """A convolution over time of each channel, as long as its input: ``(frames, channels)``."""

    def __init__(self, taps: Tensor, dilation: int = 1) -> None:
        super().__init__()
        self.taps = nn.Buffer(taps.T.contiguous())  # (taps, channels)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        reach = self.dilation * (len(self.taps) // 2)
        if x.device.type == "cpu":
            return self._in_tiles(functional.pad(x, (0, 0, reach, reach)), len(x))
        taps = self.taps.T[:, None, :, None]  # (channels, 1, taps, 1)
        picture = x.T[None, ..., None]  # (1, channels, frames, 1), channels last in memory
        y = functional.conv2d(
            picture, taps, padding=(reach, 0), dilation=(self.dilation, 1), groups=x.shape[1]
        )
        return y[0, ..., 0].T

    def _in_tiles(self, x: Tensor, count: int) -> Tensor:
        """Return `count` frames of the padded `x`, tap by tap on what fits into a cache."""
        out = x.new_empty(count, x.shape[1])
        height = max(1, TILE // x.shape[1])
        for start in range(0, count, height):
            own = out[start : start + height]
            for tap, weight in enumerate(self.taps):
                seen = x[start + tap * self.dilation :][: len(own)]
                own.addcmul_(seen, weight) if tap else torch.mul(seen, weight, out=own)
        return out


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class _Norm(nn.Module):
    """A layer norm with gain and shift."""

    def __init__(self, weights: Weights, name: str, eps: float) -> None:
        super().__init__()
        self.gain = nn.Buffer(weights[f"{name}.weight"])
        self.shift = nn.Buffer(weights[f"{name}.bias"])
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], self.gain, self.shift, self.eps)


def under(weights: Weights, prefix: str) -> Weights:
    """Return the weights whose names start with `prefix`, without it."""
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _behind(
    weights: Weights, norm: str, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a matrix and its bias with the gain and the shift of the norm before it."""
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    if f"{norm}.g" in weights:
        # A ScaleNorm divides by the root of the mean square.
        return weight * weights[f"{norm}.g"] * weight.shape[1] ** 0.5, bias
    return weight * weights[f"{norm}.weight"], bias + weight @ weights[f"{norm}.bias"]


def _of_length_one(x: Tensor) -> Tensor:
    """Return the rows over their lengths, which do not count below 1e-5 of the root of the width."""
    floor = 1e-5 * x.shape[1] ** 0.5
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_(min=floor)


def _layer_normed(x: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(x, x.shape[1:], eps=eps)


def _whitened(x: Tensor, eps: float, over: int | None = None) -> Tensor:
    """Return the whole, or each channel over the frames (0), with mean 0 and variance 1."""
    # Several times as fast as torch.var_mean on a CPU.
    centred = x - x.mean(over, dtype=torch.float32)
    variance = centred.square().mean(over)
    return centred.mul_(torch.rsqrt(variance + eps)).to(x.dtype)


def _overlapped(frames: Tensor) -> Tensor:
    """Return the sum of frames ``(frames, kernel)`` that overlap by half: ``(samples,)``."""
    half = frames.shape[1] // 2
    samples = frames.new_zeros(len(frames) + 1, half)
    samples[:-1] += frames[:, :half]
    samples[1:] += frames[:, half:]
    return samples.view(-1)
