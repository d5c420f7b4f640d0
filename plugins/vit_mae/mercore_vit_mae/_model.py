"""ViT-Base MAE on timm's VisionTransformer, from any of its published layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mercore.backends import only_float32
from mercore.components import Inputs, IntArray, Noted, Record
from mercore.errors import RegistryError, RunError
from mercore.inputs import frames_of
from mercore.machine import cores
from mercore.media import FloatArray, Frames
from mercore.nn import (
    HiddenStates,
    OnnxModel,
    chosen,
    device_of,
    dtype_of,
    moved,
    normalised,
    rows,
)
from mercore_vit_mae import VitMAE
from mercore_vit_mae._network import Published
from mercore_vit_mae._pictures import picture, shown

# What the widest activation of one pass may take: more pictures at once are not faster.
_PASS: Final = {"cpu": 2**26, "cuda": 2**29}

Run = Callable[[NDArray[np.uint8]], Tensor]
"""From pictures ``(n, side, side, 3)`` to rows ``(n, dim)``, still on the device."""

Shows = tuple[Frames, IntArray]
"""A clip, and which of its frames a picture shows."""


class VitMAEModel:
    """The function ``VitMAE.load`` returns."""

    def __init__(self, options: VitMAE, device: str, dtype: str) -> None:
        self._options = options
        self._published = Published(options)
        self._told, self._sizes = self._published.told, self._published.sizes
        self._layers = chosen(options.layers, self._sizes.depth, "vit_mae")
        self._refuse_untrained()
        self._record: Record = {}
        widest = 4 * self._sizes.tokens * self._sizes.hidden
        self._at_once = max(1, _pass(device) // widest)
        # Pillow lets other threads run while it resizes.
        self._pool = ThreadPoolExecutor(cores(), "vit_mae")
        exported = options.backend == "onnx"
        self._run = self._exported(device, dtype) if exported else self._loaded(device, dtype)

    def _refuse_untrained(self) -> None:
        last = self._sizes.depth in self._layers
        if self._sizes.mean_norm and last and self._options.pool == "cls":
            raise RegistryError(
                f"vit_mae: option 'pool' is 'cls', but {self._published.checkpoint.path} was "
                "fine-tuned on the mean of its patches (it has a norm of the mean and none of the "
                "tokens), so "
                "that its last class token means nothing; use `pool: mean`, or `layers` without "
                "the last"
            )

    def _loaded(self, device: str, dtype: str) -> Run:
        device_of(device)  # is there
        kind = dtype_of(dtype)
        net = self._net(device, kind)
        mean, std = self._told.mean, self._told.std

        def run(pixels: NDArray[np.uint8]) -> Tensor:
            output: Tensor = net(normalised(moved(pixels, device), kind, mean, std))
            return output

        return run

    def _exported(self, device: str, dtype: str) -> Run:
        only_float32("vit_mae", dtype)
        model = OnnxModel(
            self._options,
            lambda: self._net("cpu", torch.float32),
            [(self._example(count),) for count in (1, 3)],
            {"pictures": {0: "count"}},
            device=device,
            int8=self._options.int8,
        )
        self._record = model.record
        mean, std = self._told.mean, self._told.std

        def run(pixels: NDArray[np.uint8]) -> Tensor:
            pictures = normalised(torch.from_numpy(pixels), torch.float32, mean, std)
            return torch.from_numpy(model(pictures.numpy()))

        return run

    def _example(self, count: int) -> Tensor:
        numbers = torch.Generator().manual_seed(count)
        return torch.randn(count, 3, self._sizes.side, self._sizes.side, generator=numbers)

    def _net(self, device: str, dtype: torch.dtype) -> nn.Module:
        vit = self._published.network(max(1, *self._layers), dtype=dtype, device=device)
        return _Pooled(vit, self._layers, self._sizes.depth, self._options).eval()

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        clips = [frames_of(sample) for sample in batch]
        cells, most = self._options.grid**2, self._options.pictures
        plans = [shown(len(clip.pixels), cells, most) for clip in clips]
        todo = [(clip, frames) for clip, plan in zip(clips, plans, strict=True) for frames in plan]
        # The results stay on the device until all is under way, so that it never waits for Pillow.
        parts = [
            self._run(np.stack(list(self._pool.map(self._picture, some))))
            for some in _chunks(todo, self._at_once)
        ]
        matrix = rows(torch.cat(parts)) if parts else np.empty((0, self._sizes.dim), np.float32)
        ends = accumulate((len(plan) for plan in plans), initial=0)
        return [
            self._noted(matrix[start:end].copy(), len(clip.pixels), plan.size)
            for clip, plan, (start, end) in zip(clips, plans, pairwise(ends), strict=True)
        ]

    def _picture(self, shows: Shows) -> NDArray[np.uint8]:
        clip, frames = shows
        return picture(clip.pixels[frames], self._sizes.side, self._options.crop)

    def _noted(self, matrix: FloatArray, frames: int, cells: int) -> FloatArray | Noted[FloatArray]:
        record = dict(self._record)
        if frames != cells:
            record |= {"frames": frames, "cells": cells}
        return Noted(matrix, record) if record else matrix


class _Pooled(nn.Module):
    """From normalised pictures ``(n, 3, side, side)`` to rows ``(n, dim)``, float32."""

    def __init__(
        self, vit: VisionTransformer, layers: Sequence[int], depth: int, options: VitMAE
    ) -> None:
        super().__init__()
        self.vit = vit
        blocks, norm = vit.blocks, vit.norm
        self.hidden = HiddenStates(blocks, layers, options.reduce, depth=depth, final=norm)
        self.cls = options.pool == "cls"

    def forward(self, pictures: Tensor) -> Tensor:
        self.vit.forward_features(pictures)
        tokens = self.hidden.take()  # (n, 1 + patches, dim)
        return tokens[:, 0] if self.cls else tokens[:, 1:].mean(1)


def _pass(device: str) -> int:
    kind = device.partition(":")[0]
    if kind not in _PASS:
        raise RunError(f"vit_mae: device {device!r}: expected cpu, cuda or cuda:N")
    return _PASS[kind]


def _chunks(todo: Sequence[Shows], size: int) -> list[Sequence[Shows]]:
    return [todo[start : start + size] for start in range(0, len(todo), size)]
