"""The encoder `vit_mae`: each published layout, compared with transformers' own ViT.

The reference is ``ViTModel`` of transformers, loaded by its own ``from_pretrained`` from the layout
of transformers: it shares neither code nor key map with timm's VisionTransformer.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vit_mae as tiny
import torch
from mercore_vit_mae import PUBLISHED, VitMAE
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchvision import transforms
from transformers import ViTConfig, ViTModel

from mercore import CheckpointError, InputError
from mercore.components import Noted
from mercore.errors import RegistryError, RunError
from mercore.media import FloatArray, Frames, Text, Video
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD
from mercore.testing import EncoderTests

Write = Callable[[Path], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


def clip(frames: int, seed: int = 0, height: int = 112, width: int = 112) -> Frames:
    numbers = np.random.default_rng(seed)
    small = numbers.integers(0, 256, (frames, -(-height // 8), -(-width // 8), 3), np.uint8)
    pixels = small.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return Frames(np.ascontiguousarray(pixels), np.arange(frames) / 25)


def encode(checkpoint: Path | str, media: Frames, dtype: str = "float32", **options: Any) -> Any:
    encoder = VitMAE(checkpoint=str(checkpoint), **options).load("cpu", dtype)
    return encoder([{"frames": media}])[0]


def prepared(media: Frames, shorter: int = 224) -> torch.Tensor:
    """Return the pictures as torchvision prepares them with Pillow."""
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [
        transforms.ToPILImage(),
        transforms.Resize(shorter, interpolation=bicubic),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return torch.stack([transforms.Compose(steps)(picture) for picture in media.pixels])


@functools.cache
def reference() -> Any:
    """Return transformers' ViT on the tiny weights, with the eps of the original."""
    config = ViTConfig(
        hidden_size=tiny.DIM,
        num_hidden_layers=tiny.DEPTH,
        num_attention_heads=tiny.HEADS,
        intermediate_size=4 * tiny.DIM,
        image_size=tiny.SIDE,
        patch_size=tiny.PATCH,
        layer_norm_eps=1e-6,
    )
    with tempfile.TemporaryDirectory() as name:
        model, info = ViTModel.from_pretrained(
            tiny.write(Path(name), decoder=False),
            config=config,
            add_pooling_layer=False,
            output_loading_info=True,
        )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


@torch.inference_mode()
def states(pictures: torch.Tensor) -> list[torch.Tensor]:
    """Return the reference's hidden states 0 to depth; the last behind the norm."""
    model = reference()
    kept: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
        for layer in model.layers
    ]
    hooks.append(
        model.layers[0].register_forward_pre_hook(lambda _m, inputs: kept.append(inputs[0]))
    )
    last = model(pictures).last_hidden_state
    for hook in hooks:
        hook.remove()
    return [*kept[:-1], last]


def apart(one: FloatArray, other: torch.Tensor | FloatArray) -> float:
    expected = np.asarray(other)
    assert one.shape == expected.shape
    return float(np.abs(one - expected).max())


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_it_is_transformers_vit(folder: Path, pool: Any) -> None:
    media = clip(5)
    last = states(prepared(media))[-1]
    expected = last[:, 0] if pool == "cls" else last[:, 1:].mean(1)
    assert apart(encode(folder, media, pool=pool), expected) <= 1e-5
