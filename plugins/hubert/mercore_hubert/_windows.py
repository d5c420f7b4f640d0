"""The convolutions over the audio as matrix products, which is how a CPU computes them fastest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import HubertConfig
from transformers.models.hubert.modeling_hubert import HubertFeatureEncoder


def windowed(convolutions: HubertFeatureEncoder, config: HubertConfig) -> nn.Module:
    """Return what computes the same as `convolutions`, faster on a CPU.

    With layer norms it takes half the time in float32 and a fifth in bfloat16, where torch's own
    convolutions spend most of theirs on turning the layout. With a group norm in float32 nothing
    is gained: those come back as they are.
    """
    whole = next(convolutions.parameters()).dtype == torch.float32
    if config.feat_extract_norm == "group" and whole:
        return convolutions
    layers = zip(convolutions.conv_layers, config.conv_kernel, config.conv_stride, strict=True)
    return nn.Sequential(_Start(), *(_Layer(*layer) for layer in layers), _Turn()).eval()


def exportable(convolutions: HubertFeatureEncoder, config: HubertConfig) -> nn.Module:
    """Return what computes the same and can be exported: ONNX Runtime quantises products alone.

    A first layer with a group norm stays a convolution: it is small, and its norm is over time.
    """
    layers = list(
        zip(convolutions.conv_layers, config.conv_kernel, config.conv_stride, strict=True)
    )
    first: list[nn.Module] = [_Start()]
    if config.feat_extract_norm == "group":
        first, layers = [_Start(), _Turn(), layers[0][0], _Turn()], layers[1:]
    return nn.Sequential(*first, *(_Parts(*layer) for layer in layers), _Turn()).eval()


class _Start(nn.Module):
    def forward(self, audio: Tensor) -> Tensor:
        return audio[..., None]  # (batch, samples, 1)


class _Turn(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames.transpose(1, 2)  # (batch, channels, frames), or back


class _Layer(nn.Module):
    """One of them, ``(batch, length, channels)`` to the same.

    As the channels of one time lie side by side, so do all numbers that a window sees: windows
    are rows of a matrix that overlap in memory, and nothing is copied.
    """

    def __init__(self, layer: Any, kernel: int, stride: int) -> None:
        super().__init__()
        conv = layer.conv  # its weight: (out, in, kernel)
        weight = conv.weight.permute(0, 2, 1).reshape(len(conv.weight), -1).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = conv.bias
        self.norm = getattr(layer, "layer_norm", None)
        self.activation = layer.activation
        self.kernel, self.stride = kernel, stride

    def product(self, x: Tensor) -> Tensor:
        """Return the windows of ``(batch, length, channels)`` times the weight."""
        x = x.contiguous()
        batch, length, channels = x.shape
        count = (length - self.kernel) // self.stride + 1
        windows = x.as_strided(
            (batch, count, self.kernel * channels), (length * channels, self.stride * channels, 1)
        )
        return functional.linear(windows, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        if isinstance(self.norm, nn.GroupNorm):
            y = _normed(y, self.norm)
        elif self.norm is not None:
            y = self.norm(y)
        activated: Tensor = self.activation(y)
        return activated


class _Parts(_Layer):
    """The same for an export, which cannot have windows that overlap.

    A window is as many whole strides as fit into it and single times behind them; each of these
    parts is a product of its own.
    """

    def __init__(self, layer: Any, kernel: int, stride: int) -> None:
        super().__init__(layer, kernel, stride)
        self.strides, self.times = divmod(kernel, stride)
        channels = layer.conv.weight.shape[1]
        sizes = [stride * channels] * self.strides + [channels] * self.times
        # Parameters of their own: what an export splits is not quantised.
        self.parts = nn.ParameterList(torch.split(self.weight, sizes, 1)).requires_grad_(False)

    def product(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        count, stride = (length - self.kernel) // self.stride + 1, self.stride
        wholes = [
            x[:, stride * part : stride * (part + count)].reshape(batch, count, -1)
            for part in range(self.strides)
        ]
        single = [
            x[:, stride * self.strides + time :: stride][:, :count] for time in range(self.times)
        ]
        first, *others = zip(wholes + single, self.parts, strict=True)
        y = functional.linear(*first, self.bias)
        for part, weight in others:
            y = y + functional.linear(part, weight)
        return y


def _normed(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Return ``(batch, length, channels)`` normed over time; each channel is a group of its own."""
    variance, mean = torch.var_mean(x.float(), 1, correction=0, keepdim=True)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return torch.addcmul((norm.bias - mean * scale).to(x.dtype), x, scale.to(x.dtype))
