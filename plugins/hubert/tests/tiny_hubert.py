"""Tiny HuBERTs with random weights, in the layouts that the real ones are published in.

Every name is written by hand from the published files; no library that reads them is used.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

Kind = Literal["large", "base"]
Tensors = dict[str, torch.Tensor]

WIDTH, DEPTH, HEADS, FFN = 128, 6, 2, 96
CHANNELS, KERNELS, STRIDES = 16, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
POSITIONS, GROUPS = 16, 4

PREPROCESSOR: Mapping[str, Any] = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}


def config(kind: Kind, **changes: Any) -> dict[str, Any]:
    """Return config.json with the keys of the published one."""
    large = kind == "large"
    return {
        "activation_dropout": 0.1 if not large else 0.0,
        "apply_spec_augment": True,
        "architectures": ["HubertModel"],
        "attention_dropout": 0.1,
        "bos_token_id": 1,
        "conv_bias": large,
        "conv_dim": [CHANNELS] * len(KERNELS),
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "ctc_loss_reduction": "sum",
        "ctc_zero_infinity": False,
        "do_stable_layer_norm": large,
        "eos_token_id": 2,
        "feat_extract_activation": "gelu",
        "feat_extract_dropout": 0.0,
        "feat_extract_norm": "layer" if large else "group",
        "feat_proj_dropout": 0.1,
        "final_dropout": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout": 0.1,
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": FFN,
        "layer_norm_eps": 1e-05,
        "layerdrop": 0.1,
        "mask_channel_length": 10,
        "mask_feature_length": 10,
        "mask_feature_prob": 0.0,
        "mask_time_length": 10,
        "mask_time_prob": 0.05,
        "model_type": "hubert",
        "num_attention_heads": HEADS,
        "num_conv_pos_embedding_groups": GROUPS,
        "num_conv_pos_embeddings": POSITIONS,
        "num_feat_extract_layers": len(KERNELS),
        "num_hidden_layers": DEPTH,
        "pad_token_id": 0,
        "torch_dtype": "float32",
        "transformers_version": "4.10.0.dev0",
        "vocab_size": 32,
        **changes,
    }


def tensors(kind: Kind, *, biased: bool = False, seed: int = 0) -> Tensors:
    """Return weights under the names of transformers, as published: ``weight_g``, ``weight_v``."""
    numbers = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers) * scale

    found: Tensors = {"masked_spec_embed": random(WIDTH)}

    def linear(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"] = random(out, into, scale=into**-0.5)
        found[f"{name}.bias"] = random(out, scale=0.1)

    def norm(name: str, width: int) -> None:
        found[f"{name}.weight"] = 1 + random(width, scale=0.2)
        found[f"{name}.bias"] = random(width, scale=0.2)

    for layer, kernel in enumerate(KERNELS):
        name, into = f"feature_extractor.conv_layers.{layer}", CHANNELS if layer else 1
        found[f"{name}.conv.weight"] = random(
            CHANNELS, into, kernel, scale=(2 / into / kernel) ** 0.5
        )
        if biased:
            found[f"{name}.conv.bias"] = random(CHANNELS, scale=0.1)
        if kind == "large" or not layer:
            norm(f"{name}.layer_norm", CHANNELS)
    norm("feature_projection.layer_norm", CHANNELS)
    linear("feature_projection.projection", WIDTH, CHANNELS)
    conv = "encoder.pos_conv_embed.conv"
    found[f"{conv}.bias"] = random(WIDTH, scale=0.1)
    found[f"{conv}.weight_g"] = 1 + random(1, 1, POSITIONS).abs()
    found[f"{conv}.weight_v"] = random(WIDTH, WIDTH // GROUPS, POSITIONS)
    norm("encoder.layer_norm", WIDTH)
    for block in range(DEPTH):
        name = f"encoder.layers.{block}"
        for part in ("k", "v", "q", "out"):
            linear(f"{name}.attention.{part}_proj", WIDTH, WIDTH)
        norm(f"{name}.layer_norm", WIDTH)
        linear(f"{name}.feed_forward.intermediate_dense", FFN, WIDTH)
        linear(f"{name}.feed_forward.output_dense", WIDTH, FFN)
        norm(f"{name}.final_layer_norm", WIDTH)
    return found


def parametrized(found: Tensors) -> Tensors:
    """Return the names that transformers 5 and torch 2 give the weight norm."""
    parts = {"weight_g": "original0", "weight_v": "original1"}
    return {
        f"{stem}.parametrizations.weight.{parts[leaf]}" if leaf in parts else name: tensor
        for name, tensor in found.items()
        for stem, _, leaf in [name.rpartition(".")]
    }


def tuned(found: Tensors) -> Tensors:
    """Return the names of a HubertForCTC."""
    head = {"lm_head.weight": torch.ones(32, WIDTH), "lm_head.bias": torch.ones(32)}
    return {f"hubert.{name}": tensor for name, tensor in found.items()} | head


FAIRSEQ: Mapping[str, str] = {
    "feature_projection.layer_norm": "layer_norm",
    "feature_projection.projection": "post_extract_proj",
    "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
    "masked_spec_embed": "mask_emb",
}
PARTS: Mapping[str, str] = {
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.q_proj": "self_attn.q_proj",
    "attention.out_proj": "self_attn.out_proj",
    "layer_norm": "self_attn_layer_norm",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
    "final_layer_norm": "final_layer_norm",
}


def fairseq(found: Tensors, kind: Kind) -> Tensors:
    """Return fairseq's names, with the heads of pre-training."""
    written = {_fairseq_name(name, kind): tensor for name, tensor in found.items()}
    heads = {"final_proj.weight": torch.ones(8, WIDTH), "final_proj.bias": torch.ones(8)}
    return written | heads | {"label_embs_concat": torch.ones(504, 8)}


def _fairseq_name(name: str, kind: Kind) -> str:
    stem, _, leaf = name.rpartition(".")
    if not stem or stem in FAIRSEQ:
        return f"{FAIRSEQ[stem]}.{leaf}" if stem else FAIRSEQ[name]
    path = stem.split(".")
    if path[0] == "feature_extractor":
        part = "0" if path[3] == "conv" else "2.1" if kind == "large" else "2"
        return f"feature_extractor.conv_layers.{path[2]}.{part}.{leaf}"
    if path[1] == "layers":
        return f"encoder.layers.{path[2]}.{PARTS['.'.join(path[3:])]}.{leaf}"
    return name


def write(folder: Path, kind: Kind = "large", *, seed: int = 0, **changes: Any) -> Path:
    """Write a checkpoint in the layout of transformers: pytorch_model.bin; return the folder."""
    write_config(folder, kind, **changes)
    torch.save(tensors(kind, seed=seed), folder / "pytorch_model.bin")
    return folder


def write_config(folder: Path, kind: Kind, **changes: Any) -> None:
    """Write config.json and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(kind, **changes)))
    told = {**PREPROCESSOR, "do_normalize": kind == "large"}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


def write_safetensors(folder: Path, kind: Kind, found: Tensors, **changes: Any) -> Path:
    """Write these weights as model.safetensors; return the folder."""
    write_config(folder, kind, **changes)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    return folder


def write_shards(folder: Path, kind: Kind, found: Tensors, suffix: str) -> Path:
    """Write these weights into two files with an index; return the folder."""
    write_config(folder, kind)
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    where: dict[str, str] = {}
    names = list(found)
    for shard, own in enumerate((names[::2], names[1::2]), 1):
        file = f"{stem}-0000{shard}-of-00002{suffix}"
        part = {name: found[name] for name in own}
        if suffix == ".safetensors":
            save_file(part, folder / file, {"format": "pt"})
        else:
            torch.save(part, folder / file)
        where |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    return folder


def write_fairseq(file: Path, found: Tensors, *, namespace: bool = False) -> Path:
    """Write a file as fairseq's training does; with `namespace` as its older versions did."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "args": Namespace(arch="hubert") if namespace else None,
        "cfg": {"model": {"_name": "hubert", "encoder_layers": DEPTH}, "task": {"normalize": True}},
        "model": found,
        "criterion": None,
        "optimizer_history": [{"num_updates": 400000}],
        "task_state": {},
        "extra_state": {"epoch": 1},
        "last_optimizer_state": None,
    }
    torch.save(content, file)
    return file
