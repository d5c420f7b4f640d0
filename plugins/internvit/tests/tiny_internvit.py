"""Writes tiny random checkpoints in the layouts that OpenGVLab publishes InternViT in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

Layout = Literal["internvit", "internvl_14b", "chat", "pth", "internvl_c"]
Weights = dict[str, torch.Tensor]

# The keys of the published config.json; the sizes are those of tests.
SIX_B: dict[str, Any] = {
    "architectures": ["InternVisionModel"],
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 256,
    "image_size": 42,
    "initializer_factor": 0.1,
    "initializer_range": 1e-10,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-06,
    "model_type": "intern_vit_6b",
    "norm_type": "rms_norm",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 14,
    "qk_normalization": True,
    "qkv_bias": False,
    "torch_dtype": "bfloat16",
    "use_flash_attn": True,
}
THREE_HUNDRED_M: dict[str, Any] = {
    **SIX_B,
    "hidden_size": 128,
    "norm_type": "layer_norm",
    "qk_normalization": False,
    "qkv_bias": True,
}
PREPROCESSOR: dict[str, Any] = {
    "crop_size": 42,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 42,
}


def write(
    folder: Path,
    layout: Layout = "internvl_14b",
    config: Mapping[str, Any] = SIX_B,
    *,
    shards: int = 1,
    suffix: Literal[".safetensors", ".bin"] = ".safetensors",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the checkpoint into the folder, and return the path to give as `checkpoint`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.to(dtype) for name, value in published(layout, config).items()}
    if layout in ("pth", "internvl_c"):
        file = folder / f"{'intern_vit_6b' if layout == 'pth' else 'internvl_c_13b'}_224px.pth"
        torch.save({"module": weights} if layout == "pth" else weights, file)
        return file
    write_json(folder / "config.json", published_config(layout, config))
    write_json(folder / "preprocessor_config.json", preprocessor(config))
    save(folder, weights, shards, suffix)
    return folder


def published(layout: Layout, config: Mapping[str, Any] = SIX_B) -> Weights:
    """Return random weights by their published names; the tower is the same in all layouts."""
    tower = vision(config)
    if layout == "internvit":
        return tower
    if layout in ("pth", "internvl_c"):
        own = {_original(name): value for name, value in tower.items()}
        head = {**projector(int(config["hidden_size"])), **_random(_C, 4)}
        return {**own, **head} if layout == "internvl_c" else own
    own = {f"vision_model.{name}": value for name, value in tower.items()}
    if layout == "chat":
        return {**own, **_random(_CHAT, 2)}
    return {**own, **projector(int(config["hidden_size"])), **_random(_FOURTEEN_B, 3)}


def vision(config: Mapping[str, Any] = SIX_B) -> Weights:
    """Return the weights of a tower by their names in the InternViT repositories."""
    dim, mlp = config["hidden_size"], config["intermediate_size"]
    patch, tokens = config["patch_size"], (config["image_size"] // config["patch_size"]) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (1, 1, dim),
        "embeddings.position_embedding": (1, tokens, dim),
        "embeddings.patch_embedding.weight": (dim, 3, patch, patch),
        "embeddings.patch_embedding.bias": (dim,),
    }
    block: dict[str, tuple[int, ...]] = {
        "attn.qkv.weight": (3 * dim, dim),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "mlp.fc1.weight": (mlp, dim),
        "mlp.fc1.bias": (mlp,),
        "mlp.fc2.weight": (dim, mlp),
        "mlp.fc2.bias": (dim,),
        "norm1.weight": (dim,),
        "norm2.weight": (dim,),
        "ls1": (dim,),
        "ls2": (dim,),
    }
    if config["qkv_bias"]:
        block["attn.qkv.bias"] = (3 * dim,)
    if config["qk_normalization"]:
        block |= {"attn.q_norm.weight": (dim,), "attn.k_norm.weight": (dim,)}
    if config["norm_type"] == "layer_norm":
        block |= {"norm1.bias": (dim,), "norm2.bias": (dim,)}
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"encoder.layers.{number}.{name}": shape for name, shape in block.items()}
    return _random(shapes, 0)


def projector(dim: int) -> Weights:
    """Return the weights of the CLIP projector of InternVL-14B."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in "qkv":
        shapes |= {f"norm1_{part}.weight": (dim,), f"norm1_{part}.bias": (dim,)}
        shapes |= {f"cross_attn.{part}.weight": (dim, dim), f"cross_attn.{part}_bias": (dim,)}
    shapes |= {"cross_attn.proj.weight": (768, dim), "cross_attn.proj.bias": (768,)}
    return _random({f"clip_projector.{name}": shape for name, shape in shapes.items()}, 1)


def published_config(layout: Layout, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json says."""
    if layout == "internvit":
        return dict(config)
    if layout == "chat":
        return {
            "architectures": ["InternVLChatModel"],
            "model_type": "internvl_chat",
            "llm_config": {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2"},
            "vision_config": dict(config),
        }
    return {
        "architectures": ["InternVLModel"],
        "attn_pool_num_heads": 16,
        "clip_embed_dim": 768,
        "model_type": "internvl",
        "num_query_token": 96,
        "qllama_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "vision_config": dict(config),
    }


def preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what preprocessor_config.json says."""
    return {**PREPROCESSOR, "crop_size": config["image_size"], "size": config["image_size"]}


def save(folder: Path, weights: Weights, shards: int = 1, suffix: str = ".safetensors") -> None:
    """Write the weights as one file, or as shards in the order of the names with their index."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names, per_shard = list(weights), -(-len(weights) // shards)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"{stem}{f'-{shard + 1:05}-of-{shards:05}' if shards > 1 else ''}{suffix}"
        part = {n: weights[n] for n in names[shard * per_shard : (shard + 1) * per_shard]}
        if suffix == ".safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        write_json(folder / f"{stem}{suffix}.index.json", index)


def write_json(file: Path, content: object) -> None:
    """Write the content as JSON."""
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


# Beside the tower and the projector; far smaller than they are, but with their names.
_FOURTEEN_B: dict[str, tuple[int, ...]] = {
    "clip_projector2.cross_attn.proj.weight": (768, 16),
    "clip_projector2.norm1_q.weight": (16,),
    "itm_head.bias": (2,),
    "itm_head.weight": (2, 16),
    "logit_scale": (),
    "qllama.lm_head.weight": (32, 16),
    "qllama.model.layers.0.self_attn.q_proj.weight": (16, 16),
    "query_tokens": (1, 96, 16),
    "text_projection": (16, 768),
}
_C: dict[str, tuple[int, ...]] = {
    "logit_scale": (),
    "text_projection": (16, 768),
    "transformer.layers.0.self_attn.q_proj.weight": (16, 16),
}
_CHAT: dict[str, tuple[int, ...]] = {
    "language_model.model.layers.0.attention.wqkv.weight": (16, 16),
    "mlp1.0.weight": (64,),
    "mlp1.1.bias": (16,),
}


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Weights:
    """Return weights large enough that each of them shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) == 1 and not name.endswith("bias"):  # norms and layer scales
            weights[name] = (0.3 if name.endswith(("ls1", "ls2")) else 1) + 0.3 * value
        else:
            products = len(shape) > 1 and name.endswith("weight")
            weights[name] = value / (value[0].numel() if products else 4) ** 0.5
    return weights


def _original(name: str) -> str:
    """Return the name in the authors' own code."""
    names = {
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed",
    }
    name = names.get(name, name).replace("embeddings.patch_embedding", "patch_embed.proj")
    name = name.replace("encoder.layers", "blocks")
    return f"{name}.gamma" if name.endswith((".ls1", ".ls2")) else name
