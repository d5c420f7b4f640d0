"""Writes tiny Baichuan checkpoints with random weights, in the layouts that were published."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]
Size = Literal["7b", "13b"]
Layout = Literal["bin", "safetensors"]

PIECES = 384
VOCABULARY = {1: PIECES, 2: PIECES + 16}
SENTENCES = (
    "今天下雨了，我们一整天都待在家里看书、喝茶，晚上才出去走了一会儿。",
    "It was raining all day, and we stayed at home.",
    "你为什么离开我？她看起来很难过，也很担心。",
    "Why did you leave me alone?",
    "我太高兴了！请判断下面这句话的情感：",
)
CHAT = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | {
    "user_token_id": 195,
    "assistant_token_id": 196,
    "max_new_tokens": 2048,
}


def write(
    folder: Path,
    *,
    size: Size = "13b",
    version: Literal[1, 2] = 1,
    layout: Layout = "bin",
    shards: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **changes: int,
) -> Path:
    """Return `folder`, with all the files of a checkpoint; `changes` are of its config.json.

    Heads are 5 for 13B, so that they are no power of two, as the published 40 are none.
    """
    config = config_of(size, version) | changes
    write_rest(folder, config)
    save(folder, weights_of(config, dtype, seed), layout, shards)
    return folder


def write_rest(folder: Path, config: Mapping[str, Any]) -> None:
    """Write all files but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(CHAT, indent=2))
    (folder / "tokenizer.model").write_bytes(tokenizer())


def config_of(size: Size, version: Literal[1, 2] = 1) -> dict[str, Any]:
    """Return a config.json with the keys of the published one."""
    heads = 5 if size == "13b" else 4
    # Baichuan-7B has the first key, the 13B models the second, Baichuan2-7B both.
    context = {"max_position_embeddings": 64, "model_max_length": 64}
    if (size, version) != ("7b", 2):
        del context["model_max_length" if size == "7b" else "max_position_embeddings"]
    return {
        "architectures": [
            "BaiChuanForCausalLM" if (size, version) == ("7b", 1) else "BaichuanForCausalLM"
        ],
        "auto_map": {"AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 8 * heads,
        "initializer_range": 0.02,
        "intermediate_size": 56,
        **context,
        "model_type": "baichuan",
        "num_attention_heads": heads,
        "num_hidden_layers": 5,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": VOCABULARY[version],
    }


def weights_of(
    config: Mapping[str, Any], dtype: torch.dtype = torch.float32, seed: int = 0
) -> Weights:
    """Return random weights under the published names."""
    random = torch.Generator().manual_seed(seed)
    wide, inner, rows = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))

    def matrix(out: int, into: int) -> torch.Tensor:
        return torch.randn(out, into, generator=random).div(into**0.5).to(dtype)

    def norm() -> torch.Tensor:
        return torch.randn(wide, generator=random).mul(0.1).add(1).to(dtype)

    weights = {"model.embed_tokens.weight": matrix(rows, wide) * wide**0.5}
    for block in range(config["num_hidden_layers"]):
        at = f"model.layers.{block}"
        weights[f"{at}.self_attn.W_pack.weight"] = matrix(3 * wide, wide)
        weights[f"{at}.self_attn.o_proj.weight"] = matrix(wide, wide) / 2
        if config["architectures"] == ["BaiChuanForCausalLM"]:  # Baichuan-7B alone saved it
            half = torch.arange(0, wide // config["num_attention_heads"], 2).float()
            frequencies = 10_000 ** (-half / (2 * len(half)))
            weights[f"{at}.self_attn.rotary_emb.inv_freq"] = frequencies
        weights[f"{at}.mlp.gate_proj.weight"] = matrix(inner, wide)
        weights[f"{at}.mlp.down_proj.weight"] = matrix(wide, inner) / 2
        weights[f"{at}.mlp.up_proj.weight"] = matrix(inner, wide)
        weights[f"{at}.input_layernorm.weight"] = norm()
        weights[f"{at}.post_attention_layernorm.weight"] = norm()
    return weights | {"model.norm.weight": norm(), "lm_head.weight": matrix(rows, wide)}


def save(folder: Path, weights: Weights, layout: Layout = "bin", shards: int = 2) -> None:
    """Write the weights as one file, or as shards and their index."""
    stem, end = ("pytorch_model", "bin") if layout == "bin" else ("model", "safetensors")
    if shards == 1:
        _save(folder / f"{stem}.{end}", weights)
        return
    names = list(weights)
    index: dict[str, str] = {}
    for number in range(shards):
        file = f"{stem}-{number + 1:05}-of-{shards:05}.{end}"
        own = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        _save(folder / file, {name: weights[name] for name in own})
        index |= dict.fromkeys(own, file)
    total = sum(tensor.nbytes for tensor in weights.values())
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(content))


def _save(file: Path, weights: Weights) -> None:
    if file.suffix == ".bin":
        torch.save(weights, file)
    else:
        save_file(weights, file, {"format": "pt"})


@cache
def tokenizer(pieces: int = PIECES) -> bytes:
    """Return a tokenizer.model: BPE with bytes for unknown characters, no space put in front."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3),
        model_writer=model,
        model_type="bpe",
        byte_fallback=True,
        vocab_size=pieces,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
