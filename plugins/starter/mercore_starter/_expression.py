"""The expression net of face-api: four blocks of depthwise separable convolutions.

Source: the npm package @vladmandic/face-api 1.7.15 (MIT), ``FaceFeatureExtractor`` and
``FaceExpressionNet``. The weights keep the names of its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from mercore.backends import only_float32
from mercore.components import Inputs
from mercore.errors import CheckpointError
from mercore.inputs import frames_of
from mercore.media import FloatArray, Frames
from mercore.nn import OnnxModel, device_of, dtype_of, moved, rows
from mercore_starter.faces import EXPRESSION_WEIGHTS, FaceExpression

SIDE = 112
MEAN = (122.782, 117.001, 104.298)  # RGB
CHUNK = 16  # frames a forward pass: larger ones leave the processor's cache


class ExpressionEncoder:
    """Encodes the crops of each sample; holds the weights."""

    def __init__(self, options: FaceExpression, device: str, dtype: str) -> None:
        self._net: Callable[[NDArray[np.uint8]], FloatArray]
        if options.backend == "onnx":
            only_float32("face_expression", dtype)
            # A crop of 112 x 112 is not resized, which no export could do for every size.
            examples = [(_example(frames),) for frames in (2, 5)]
            model = OnnxModel(
                options,
                lambda: ExpressionNet(options.output, "cpu", torch.float32),
                examples,
                {"pictures": {0: "frames"}},
                device=device,
            )
            self._net = lambda pixels: model(normalised(torch.from_numpy(pixels)).numpy())
        else:
            device_of(device)  # is there
            net = ExpressionNet(options.output, device, dtype_of(dtype))
            self._net = lambda pixels: rows(net(normalised(moved(pixels, device))))

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        """Return one ``(frames, 256)`` or ``(frames, 7)`` float32 matrix a sample, in order."""
        # One sample a pass, so that the sums inside a convolution never depend on the batch.
        return [self._encode(frames_of(sample)) for sample in batch]

    def _encode(self, frames: Frames) -> FloatArray:
        return np.concatenate([self._net(chunk) for chunk in _chunks(frames.pixels)])


class ExpressionNet(nn.Module):
    """The net: ``(frames, 3, 112, 112)`` normalised pictures to ``(frames, 256)`` or ``(…, 7)``."""

    def __init__(
        self, output: Literal["features", "probabilities"], device: str, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.output = output
        self.dtype = dtype
        self.weights = {
            name: _torch_layout(name, torch.from_numpy(array)).to(device, dtype)
            for name, array in read_weights(EXPRESSION_WEIGHTS).items()
        }

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features or the probabilities."""
        found = features(pictures.to(self.dtype), self.weights)
        if self.output == "features":
            return found
        logits = F.linear(found, self.weights["fc/weights"], self.weights["fc/bias"])
        return torch.softmax(logits.float(), dim=1)


def _example(frames: int) -> Tensor:
    return torch.randn(frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(frames))


def read_weights(path: Path) -> dict[str, FloatArray]:
    """Return the float32 weights by manifest name, in the manifest's axis order.

    A uint8 value ``q`` stands for ``q * scale + min``, computed in float64 and rounded once, as
    TensorFlow.js does.
    """
    try:
        with safe_open(path, framework="np") as file:
            steps = json.loads(file.metadata()["quantization"])
            stored = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read the weights {str(path)!r}: {error}; install mercore-starter again"
        ) from error
    return {name: _dequantised(array, steps.get(name)) for name, array in stored.items()}


def _dequantised(stored: NDArray[np.generic], step: Mapping[str, float] | None) -> FloatArray:
    if step is None:
        return stored.astype(np.float32)
    return (stored.astype(np.float64) * step["scale"] + step["min"]).astype(np.float32)


def _torch_layout(name: str, weight: Tensor) -> Tensor:
    if name.endswith("depthwise_filter"):
        return weight.permute(2, 3, 0, 1).contiguous()  # (3, 3, in, 1) -> (in, 1, 3, 3)
    if name.endswith(("filters", "pointwise_filter")):
        return weight.permute(3, 2, 0, 1).contiguous()  # (k, k, in, out) -> (out, in, k, k)
    return weight.T.contiguous() if name == "fc/weights" else weight


def _chunks(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pixels[start : start + CHUNK] for start in range(0, len(pixels), CHUNK)]


def normalised(images: Tensor) -> Tensor:
    """Return ``(frames, 3, 112, 112)`` float32 from ``(frames, height, width, 3)`` uint8."""
    x = images.permute(0, 3, 1, 2).float()
    height, width = x.shape[2:]
    # The odd pixel goes below or to the right, as in face-api.
    above, left = max(width - height, 0) // 2, max(height - width, 0) // 2
    below, right = max(width - height, 0) - above, max(height - width, 0) - left
    x = F.pad(x, (left, right, above, below))
    if x.shape[2] != SIDE:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / 255


def features(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Return ``(frames, 256)`` from normalised ``(frames, 3, 112, 112)`` pictures."""
    for block in range(4):
        x = _block(x, f"dense{block}", weights)  # (frames, 32 * 2^block, 56 / 2^block, same)
    return x.mean(dim=(2, 3))  # (frames, 256): 7 x 7 average pooling


def _block(x: Tensor, name: str, weights: Mapping[str, Tensor]) -> Tensor:
    """Return a block's output: each layer is fed the sum of all layers before it."""
    total = F.relu(_halving(x, f"{name}/conv0", weights))
    inner = total
    for layer in (1, 2, 3):
        total = total + _separable(inner, f"{name}/conv{layer}", weights, stride=1)
        inner = F.relu(total)
    return inner


def _halving(x: Tensor, name: str, weights: Mapping[str, Tensor]) -> Tensor:
    # TensorFlow's "same" padding of an even side at stride 2: nothing before, one after.
    x = F.pad(x, (0, 1, 0, 1))
    if f"{name}/filters" in weights:
        return F.conv2d(x, weights[f"{name}/filters"], weights[f"{name}/bias"], stride=2)
    return _separable(x, name, weights, stride=2)


def _separable(x: Tensor, name: str, weights: Mapping[str, Tensor], stride: int) -> Tensor:
    depthwise = weights[f"{name}/depthwise_filter"]
    padding = 1 if stride == 1 else 0
    x = F.conv2d(x, depthwise, stride=stride, padding=padding, groups=len(depthwise))
    return F.conv2d(x, weights[f"{name}/pointwise_filter"], weights[f"{name}/bias"])
