"""The parts MossFormer2 is built of; all tensors are ``(frames, channels)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]
"""Weights by their published names, those of a part without what they share."""

TILE: Final = 2**19
"""Numbers that are worked on together on a CPU, for its caches: 2 MB in float32."""


class Linear(nn.Module):
    """A matrix and a bias."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Norm(nn.Module):
    """A layer norm with gain and shift."""

    def __init__(self, weights: Weights, name: str, eps: float) -> None:
        super().__init__()
        self.gain = nn.Buffer(weights[f"{name}.weight"])
        self.shift = nn.Buffer(weights[f"{name}.bias"])
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], self.gain, self.shift, self.eps)


class Depthwise(nn.Module):
    """A convolution over time of each channel, as long as its input."""

    def __init__(self, taps: Tensor, dilation: int = 1) -> None:
        super().__init__()
        self.taps = nn.Buffer(taps.T.contiguous())  # (taps, channels)
        self.dilation = dilation
        self.reach = dilation * (taps.shape[1] // 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return self.in_tiles(lambda first, last: x[first:last], len(x))
        return self.at_once(x)

    def at_once(self, x: Tensor) -> Tensor:
        """Return what comes of all frames, by torch's own convolution: for GPUs."""
        taps = self.taps.T[:, None, :, None]  # (channels, 1, taps, 1)
        picture = x.T[None, ..., None]  # (1, channels, frames, 1), channels last in memory
        y = functional.conv2d(
            picture,
            taps,
            padding=(self.reach, 0),
            dilation=(self.dilation, 1),
            groups=x.shape[1],
        )
        return y[0, ..., 0].T

    def in_tiles(self, frames: Callable[[int, int], Tensor], count: int) -> Tensor:
        """Return what comes of the `count` frames that ``frames(first, last)`` gives in parts.

        Tap by tap: on a CPU several times as fast as torch's convolutions with a group a channel.
        """
        out = self.taps.new_empty(count, self.taps.shape[1])
        height = max(1, TILE // out.shape[1])
        for start in range(0, count, height):
            stop = min(start + height, count)
            first, last = max(0, start - self.reach), min(count, stop + self.reach)
            around = (0, 0, first - start + self.reach, stop + self.reach - last)
            self._put(functional.pad(frames(first, last), around), out[start:stop])
        return out

    def _put(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x[: len(out)], self.taps[0], out=out)
        for tap, weight in enumerate(self.taps[1:], 1):
            out.addcmul_(x[tap * self.dilation :][: len(out)], weight)


class Projection(nn.Module):
    """A norm, a matrix, SiLU and a convolution over time with a way around.

    Several of them side by side where more than one name is given. The norm's gain and shift are in
    the matrix, and the way around in the middle tap.
    """

    def __init__(self, weights: Weights, *names: str) -> None:
        super().__init__()
        self.norm = of_length_one if f"{names[0]}.mdl.0.g" in weights else layer_normed
        matrices = [
            behind(
                weights,
                f"{name}.mdl.0",
                weights[f"{name}.mdl.1.weight"],
                weights[f"{name}.mdl.1.bias"],
            )
            for name in names
        ]
        self.linear = Linear(*map(torch.cat, zip(*matrices, strict=True)))
        taps = torch.cat([weights[f"{name}.mdl.3.sequential.1.conv.weight"] for name in names])
        taps = taps[:, 0].clone()
        taps[:, taps.shape[1] // 2] += 1
        self.conv = Depthwise(taps)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return self.conv.in_tiles(lambda first, last: self._hidden(x[first:last]), len(x))
        convolved: Tensor = self.conv(self._hidden(x))
        return convolved

    def _hidden(self, x: Tensor) -> Tensor:
        return functional.silu(self.linear(self.norm(x)), inplace=True)


class Dense(nn.Module):
    """A dilated convolution, an instance norm and a PReLU; `number` counts from 1.

    Each channel out is the sum of `number` channels in; the first of all come first, and so on.
    """

    def __init__(self, weights: Weights, number: int) -> None:
        super().__init__()
        taps = weights[f"conv.conv{number}.weight"][..., 0]  # (out, number, taps)
        self.conv = Depthwise(taps.transpose(0, 1).flatten(0, 1), dilation=2 ** (number - 1))
        self.number = number
        self.gain = nn.Buffer(weights[f"conv.norm{number}.weight"])
        self.shift = nn.Buffer(weights[f"conv.norm{number}.bias"])
        self.bend = nn.Buffer(weights[f"conv.prelu{number}.weight"])

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.conv(x).chunk(self.number, 1)
        y = whitened(sum(others, first), 1e-5, over=0)
        return functional.prelu(torch.addcmul(self.shift, y, self.gain), self.bend)


def under(weights: Weights, prefix: str) -> Weights:
    """Return the weights whose names start with `prefix`, without it."""
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def behind(
    weights: Weights, norm: str, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a matrix and its bias with the gain and the shift of the norm before it."""
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    if f"{norm}.g" in weights:
        # A ScaleNorm divides by the root of the mean square, `of_length_one` by that of the sum.
        return weight * weights[f"{norm}.g"] * weight.shape[1] ** 0.5, bias
    return weight * weights[f"{norm}.weight"], bias + weight @ weights[f"{norm}.bias"]


def of_length_one(x: Tensor) -> Tensor:
    """Return each row over its length; very small ones are left smaller, as ScaleNorm does."""
    least = 1e-5 * x.shape[1] ** 0.5
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.clamp_(min=least)


def layer_normed(x: Tensor) -> Tensor:
    """Return each row with mean 0 and variance 1."""
    return functional.layer_norm(x, x.shape[1:], eps=1e-5)


def whitened(x: Tensor, eps: float, over: int | None = None) -> Tensor:
    """Return the whole, or each channel over the frames (0), with mean 0 and variance 1."""
    # In two passes: several times as fast as torch.var_mean on a CPU.
    centred = x - x.mean(over, dtype=torch.float32)
    variance = centred.square().mean(over)
    return centred.mul_(torch.rsqrt(variance + eps)).to(x.dtype)


def overlapped(frames: Tensor) -> Tensor:
    """Return the sum of frames ``(frames, kernel)`` that overlap by half: ``(samples,)``."""
    half = frames.shape[1] // 2
    samples = frames.new_zeros(len(frames) + 1, half)
    samples[:-1] += frames[:, :half]
    samples[1:] += frames[:, half:]
    return samples.view(-1)
