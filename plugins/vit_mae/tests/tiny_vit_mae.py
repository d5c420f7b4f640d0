"""Tiny random masked autoencoders, written in the layouts that real ones are published in."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

SIDE, PATCH = 224, 32
DIM, DEPTH, HEADS = 32, 3, 2
WIDER, BLOCKS = 16, 2  # of the decoder
PATCHES = (SIDE // PATCH) ** 2

Tensors = dict[str, torch.Tensor]
Library = Literal["timm", "transformers", "mmpretrain"]

CONFIGS: dict[str, dict[str, Any]] = {
    "timm": {
        "architecture": "vit_base_patch16_224",
        "num_classes": 0,
        "num_features": DIM,
        "model_args": {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS},
        "pretrained_cfg": {
            "tag": "mae",
            "input_size": [3, SIDE, SIDE],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 0,
        },
    },
    "transformers": {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "hidden_size": DIM,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * DIM,
        "hidden_act": "gelu",
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_channels": 3,
        "qkv_bias": True,
        "layer_norm_eps": 1e-12,  # as published; the original and its training have 1e-6
        "decoder_hidden_size": WIDER,
        "decoder_num_hidden_layers": BLOCKS,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 4 * WIDER,
        "mask_ratio": 0.75,
    },
}
PREPROCESSOR = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": SIDE,
}


def write(
    folder: Path, library: Library = "transformers", *, decoder: bool = True, seed: int = 0
) -> Path:
    """Write a checkpoint with its json files into `folder` and return the folder.

    The weights of a seed are the same in each layout; mmpretrain's has no json files, so that it
    needs the option ``heads: 2``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = full(seed) if decoder else encoder(seed)
    if library == "mmpretrain":
        torch.save(nested(mmpretrain(tensors)), folder / "mae_vit-base-p16_8xb512.pth")
        return folder
    own = transformers(tensors) if library == "transformers" else tensors
    save_file(own, folder / "model.safetensors", {"format": "pt"})
    dump(folder / "config.json", CONFIGS[library])
    if library == "transformers":
        dump(folder / "preprocessor_config.json", PREPROCESSOR)
    return folder


def dump(file: Path, content: Mapping[str, Any]) -> None:
    """Write a json file."""
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


def encoder(seed: int = 0) -> Tensors:
    """Return the encoder under the names of facebook's and timm's files."""
    numbers = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers)

    tensors = {
        "cls_token": random(1, 1, DIM),
        "pos_embed": random(1, PATCHES + 1, DIM) * 0.5,
        "patch_embed.proj.weight": random(DIM, 3, PATCH, PATCH) * 0.02,
        "patch_embed.proj.bias": random(DIM) * 0.1,
    }
    for block in range(DEPTH):
        tensors |= _block(f"blocks.{block}.", DIM, random)
    return tensors | _norm("norm.", DIM, random)


def full(seed: int = 0) -> Tensors:
    """Return encoder and decoder, as in ``mae_visualize_vit_base.pth``."""
    numbers = torch.Generator().manual_seed(seed + 1000)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers)

    tensors = encoder(seed) | {
        "mask_token": random(1, 1, WIDER),
        "decoder_pos_embed": random(1, PATCHES + 1, WIDER),
        "decoder_embed.weight": random(WIDER, DIM),
        "decoder_embed.bias": random(WIDER),
        "decoder_pred.weight": random(3 * PATCH * PATCH, WIDER),
        "decoder_pred.bias": random(3 * PATCH * PATCH),
    }
    for block in range(BLOCKS):
        tensors |= _block(f"decoder_blocks.{block}.", WIDER, random)
    return tensors | _norm("decoder_norm.", WIDER, random)


def finetuned(seed: int = 0, classes: int = 6) -> Tensors:
    """Return what facebook's and timm's fine-tuning with global_pool leaves: no `norm`."""
    tensors = encoder(seed)
    for kind in ("weight", "bias"):
        tensors[f"fc_norm.{kind}"] = tensors.pop(f"norm.{kind}")
    numbers = torch.Generator().manual_seed(seed + 2000)
    tensors["head.weight"] = torch.randn(classes, DIM, generator=numbers)
    tensors["head.bias"] = torch.randn(classes, generator=numbers)
    return tensors


def _block(prefix: str, dim: int, random: Any) -> Tensors:
    scale = dim**-0.5
    return {
        **_norm(f"{prefix}norm1.", dim, random),
        f"{prefix}attn.qkv.weight": random(3 * dim, dim) * scale * 1.5,
        f"{prefix}attn.qkv.bias": random(3 * dim) * 0.3,
        f"{prefix}attn.proj.weight": random(dim, dim) * scale,
        f"{prefix}attn.proj.bias": random(dim) * 0.1,
        **_norm(f"{prefix}norm2.", dim, random),
        f"{prefix}mlp.fc1.weight": random(4 * dim, dim) * scale,
        f"{prefix}mlp.fc1.bias": random(4 * dim) * 0.1,
        f"{prefix}mlp.fc2.weight": random(dim, 4 * dim) * scale * 0.5,
        f"{prefix}mlp.fc2.bias": random(dim) * 0.1,
    }


def _norm(prefix: str, dim: int, random: Any) -> Tensors:
    return {f"{prefix}weight": 1 + 0.2 * random(dim), f"{prefix}bias": 0.2 * random(dim)}


_TRANSFORMERS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def transformers(tensors: Tensors) -> Tensors:
    """Return them under the names of transformers' ViTMAEForPreTraining on disk."""
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "mask_token": "decoder.mask_token",
        **{
            f"decoder_{name}": f"decoder.decoder_{name}"
            for name in ("pos_embed", "embed", "norm", "pred")
        },
    }
    out: Tensors = {}
    for name, tensor in tensors.items():
        stem, _, kind = (
            name.rpartition(".") if name.endswith(("weight", "bias")) else (name, "", "")
        )
        end = f".{kind}" if kind else ""
        if "blocks." not in name:
            out[names[stem] + end] = tensor
            continue
        stack, number, inner = stem.split(".", 2)
        start = "vit.encoder.layer" if stack == "blocks" else "decoder.decoder_layers"
        if inner == "attn.qkv":
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[f"{start}.{number}.attention.attention.{part}{end}"] = value.clone()
        else:
            out[f"{start}.{number}.{_TRANSFORMERS[inner]}{end}"] = tensor
    return out


_MMPRETRAIN = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "mlp.fc1": "ffn.layers.0.0",
    "mlp.fc2": "ffn.layers.1",
}


def mmpretrain(tensors: Tensors) -> Tensors:
    """Return them under the names of mmpretrain's MAE, or of its classifier where fine-tuned."""
    names = {
        "cls_token": "backbone.cls_token",
        "pos_embed": "backbone.pos_embed",
        "patch_embed.proj": "backbone.patch_embed.projection",
        "norm": "backbone.ln1",
        "fc_norm": "backbone.ln2",
        "head": "head.fc",
        "mask_token": "neck.mask_token",
        "decoder_pos_embed": "neck.decoder_pos_embed",
        "decoder_embed": "neck.decoder_embed",
        "decoder_pred": "neck.decoder_pred",
        "decoder_norm": "neck.ln1",
    }
    out: Tensors = {}
    for name, tensor in tensors.items():
        stem, _, kind = (
            name.rpartition(".") if name.endswith(("weight", "bias")) else (name, "", "")
        )
        end = f".{kind}" if kind else ""
        if "blocks." not in name:
            out[names[stem] + end] = tensor
            continue
        stack, number, inner = stem.split(".", 2)
        start = "backbone.layers" if stack == "blocks" else "neck.decoder_blocks"
        out[f"{start}.{number}.{_MMPRETRAIN[inner]}{end}"] = tensor
    return out


def nested(tensors: Tensors) -> dict[str, Any]:
    """Return what mmpretrain saves around the weights."""
    meta = {
        "mmengine_version": "0.10.1",
        "seed": 0,
        "dataset_meta": None,
        "epoch": 300,
        "iter": 93900,
        "cfg": "model = dict(type='MAE')\n",
        "time": "20240101_000000",
    }
    return {"meta": meta, "state_dict": OrderedDict(tensors)}


def sharded(folder: Path, tensors: Tensors, suffix: Literal[".safetensors", ".bin"]) -> None:
    """Write the weights into two files and their index, as transformers does."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = sorted(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    weight_map: dict[str, str] = {}
    for number, half in enumerate(halves, 1):
        shard = f"{stem}-{number:05}-of-00002{suffix}"
        part = {name: tensors[name] for name in half}
        if suffix == ".safetensors":
            save_file(part, folder / shard, {"format": "pt"})
        else:
            torch.save(part, folder / shard)
        weight_map |= dict.fromkeys(half, shard)
    size = sum(tensor.numel() * 4 for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    dump(folder / f"{stem}{suffix}.index.json", index)
