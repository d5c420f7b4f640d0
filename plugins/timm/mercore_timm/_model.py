"""Frames prepared by timm's transform, run through its model, and pooled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from mercore.components import Inputs
from mercore.errors import CheckpointError, RegistryError, RunError
from mercore.inputs import frames_of
from mercore.machine import cores
from mercore.media import FloatArray
from mercore.nn import dtype_of, moved, normalised, rows
from mercore_timm import TimmImage
from mercore_timm._published import published

_PASS: Final = {"cpu": 16, "cuda": 128}
"""Pictures of 224 x 224 pixels run at once; more are not faster."""


class TimmModel:
    """The function ``TimmImage.load`` returns."""

    def __init__(self, options: TimmImage, device: str, dtype: str) -> None:
        kind = torch.device(device).type
        if kind == "cuda" and not torch.cuda.is_available():
            raise RunError(f"timm_image: device {device!r}: torch finds no CUDA device; use cpu")
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        model = published(options)
        config = data_config(model, options)
        self._model: Any = model.to(device, self._dtype).eval().requires_grad_(False)
        self._mean, self._std = tuple(config["mean"]), tuple(config["std"])
        self._transform = create_transform(**config, normalize=False)
        _, height, width = config["input_size"]
        self._at_once = max(1, _PASS[kind] * 224 * 224 // (height * width))
        # Pillow lets other threads run while it resizes.
        self._pool = ThreadPoolExecutor(cores(), "timm_image")
        if options.layers is not None:
            self._try_layers(options.layers, torch.zeros(1, 3, height, width))

    def _try_layers(self, layers: Sequence[int], blank: Tensor) -> None:
        """Raise RegistryError unless the model can give the maps of all layers."""
        if len(set(layers)) < len(layers):
            raise RegistryError(f"timm_image: option 'layers' {list(layers)!r} names one twice")
        if not hasattr(self._model, "forward_intermediates"):
            raise RegistryError(
                "timm_image: this model has no forward_intermediates, which 'layers' needs; leave "
                "the option out"
            )
        try:
            with torch.inference_mode():
                maps = self._maps(blank.to(self._device, self._dtype))
        except AssertionError as error:
            raise RegistryError(
                f"timm_image: option 'layers' {list(layers)!r}: {error}; timm counts from 0, "
                "negative numbers from the last"
            ) from error
        if len(maps) < len(layers):
            raise RegistryError(f"timm_image: option 'layers' {list(layers)!r} names one twice")

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray]:
        clips = [frames_of(sample).pixels for sample in batch]
        todo = [frame for clip in clips for frame in clip]
        # The results stay on the device until all is under way, so that it never waits for Pillow.
        parts = [
            self._rows(np.stack(list(self._pool.map(self._picture, some))))
            for some in _chunks(todo, self._at_once)
        ]
        if not parts:
            return []
        matrix = rows(torch.cat(parts))  # (pictures, rows of each, dim)
        ends = accumulate(map(len, clips), initial=0)
        return [
            matrix[start:end].reshape(-1, matrix.shape[-1]).copy() for start, end in pairwise(ends)
        ]

    def _picture(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the ``(height, width, 3)`` picture that the model reads."""
        picture: Tensor = self._transform(Image.fromarray(frame))  # (3, height, width) uint8
        return picture.permute(1, 2, 0).numpy()

    def _rows(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Return ``(pictures, rows of each, dim)`` float32, on the device."""
        x = normalised(moved(pictures, self._device), self._dtype, self._mean, self._std)
        if self._options.pool == "model":
            vectors: Tensor = self._model(x)
            return vectors.float()[:, None]
        if self._options.layers is not None:
            return torch.cat([one.float().mean((2, 3)) for one in self._maps(x)], 1)[:, None]
        tokens = self._tokens(self._model.forward_features(x)).float()
        if self._options.pool == "tokens":
            return tokens
        return tokens[:, getattr(self._model, "num_prefix_tokens", 0) :].mean(1, keepdim=True)

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Return those of `layers`, in the model's order: ``(pictures, dim, rows, columns)``."""
        maps: list[Tensor] = self._model.forward_intermediates(
            x,
            indices=list(self._options.layers or ()),
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return maps

    def _tokens(self, features: Tensor) -> Tensor:
        """Return ``(pictures, tokens, dim)``, cells of a map row by row."""
        if features.dim() != 4:
            return features
        last = getattr(self._model, "output_fmt", "NCHW") == "NHWC"
        return features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)


def data_config(model: Any, options: TimmImage) -> dict[str, Any]:
    """Return how timm prepares pictures for the model, with what the options say instead.

    Raises CheckpointError for a model that does not read three channels.
    """
    given = {
        "input_size": options.size and (3, options.size, options.size),
        "crop_mode": options.crop,
        "crop_pct": options.crop_pct,
    }
    config: dict[str, Any] = resolve_model_data_config(model, args=given)  # type: ignore[no-untyped-call]
    channels = model.pretrained_cfg["input_size"][0]
    if channels != 3:
        raise CheckpointError(
            f"{options.weights}: the model reads {channels} channels, expected 3: red, green, blue"
        )
    return config


def _chunks(todo: Sequence[NDArray[np.uint8]], size: int) -> list[Sequence[NDArray[np.uint8]]]:
    return [todo[start : start + size] for start in range(0, len(todo), size)]
