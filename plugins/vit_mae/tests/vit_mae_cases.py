"""What the tests of `vit_mae` share: clips, checkpoints in each layout, torchvision's pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny_vit_mae as tiny
import torch
from safetensors.torch import save_file

from mercore.media import FloatArray, Frames
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD
from mercore_vit_mae import VitMAE

Write = Callable[[Path], Path]


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
    from torchvision import transforms  # takes seconds

    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [
        transforms.ToPILImage(),
        transforms.Resize(shorter, interpolation=bicubic),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return torch.stack([transforms.Compose(steps)(picture) for picture in media.pixels])


def apart(one: FloatArray, other: torch.Tensor | FloatArray) -> float:
    expected = np.asarray(other)
    assert one.shape == expected.shape
    return float(np.abs(one - expected).max())


def plain(tensors: tiny.Tensors, suffix: str) -> Write:
    def write(folder: Path) -> Path:
        if suffix == ".safetensors":
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
            return folder / "model.safetensors"
        torch.save(tensors, folder / f"weights{suffix}")
        return folder / f"weights{suffix}"

    return write


def wrapped(tensors: tiny.Tensors, **more: Any) -> Write:
    def write(folder: Path) -> Path:
        torch.save({"model": tensors, **more}, folder / "mae_pretrain_vit_base.pth")
        return folder / "mae_pretrain_vit_base.pth"

    return write


def saved(content: Any) -> Write:
    def write(folder: Path) -> Path:
        torch.save(content, folder / "mae_vit-base-p16_8xb512.pth")
        return folder / "mae_vit-base-p16_8xb512.pth"

    return write


def in_shards(tensors: tiny.Tensors, suffix: Any, config: str) -> Write:
    def write(folder: Path) -> Path:
        tiny.sharded(folder, tensors, suffix)
        tiny.dump(folder / "config.json", tiny.CONFIGS[config])
        return folder

    return write


def without(prefix: str, tensors: tiny.Tensors) -> tiny.Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


ENCODER, FULL, TUNED = tiny.encoder(), tiny.full(), tiny.finetuned()
PRETRAINED: dict[str, Write] = {
    "timm hub folder": lambda folder: tiny.write(folder, "timm", decoder=False),
    "timm file": plain(ENCODER, ".safetensors"),
    "timm file with decoder": plain(FULL, ".safetensors"),
    "timm .bin": plain(ENCODER, ".bin"),
    "facebook encoder": wrapped(ENCODER),
    "facebook with decoder": wrapped(FULL, epoch=800),
    "facebook flat": plain(ENCODER, ".pth"),
    "facebook of a parallel training": wrapped({f"module.{k}": v for k, v in FULL.items()}),
    "transformers folder": lambda folder: tiny.write(folder),
    "transformers encoder": lambda folder: tiny.write(folder, decoder=False),
    "transformers file": plain(tiny.transformers(FULL), ".safetensors"),
    "transformers .bin": plain(tiny.transformers(FULL), ".bin"),
    "transformers without prefix": plain(
        without("vit.", tiny.transformers(ENCODER)), ".safetensors"
    ),
    "transformers shards": in_shards(tiny.transformers(FULL), ".safetensors", "transformers"),
    "transformers .bin shards": in_shards(tiny.transformers(FULL), ".bin", "transformers"),
    "timm shards": in_shards(ENCODER, ".safetensors", "timm"),
    "mmpretrain folder": lambda folder: tiny.write(folder, "mmpretrain"),
    "mmpretrain with decoder": saved(tiny.nested(tiny.mmpretrain(FULL))),
    "mmpretrain without decoder": saved(tiny.nested(tiny.mmpretrain(ENCODER))),
    "mmpretrain backbone": saved(without("backbone.", tiny.mmpretrain(ENCODER))),
    "mmpretrain with a token's head": saved(
        tiny.nested(tiny.mmpretrain(ENCODER | {"head.weight": TUNED["head.weight"]}))
    ),
}
FINETUNED: dict[str, Write] = {
    "timm file": plain(TUNED, ".safetensors"),
    "facebook": wrapped(TUNED),
    "mmpretrain": saved(tiny.nested(tiny.mmpretrain(TUNED))),
}
