"""CT-Transformers with random weights, in the layouts that the real ones are published in.

Tiny unless told otherwise. Every name is written by hand from the published files; no library that
reads them is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml

Kind = Literal["characters", "words"]
"""``zh-cn-common-vocab272727`` reads characters, ``cn-en-common-vocab471067-large`` words."""
Tensors = dict[str, torch.Tensor]

KINDS: tuple[Kind, ...] = ("characters", "words")
KERNEL = 11
MARKS = ["<unk>", "_", "，", "。", "？", "、"]

CHARACTERS = "今天气真不错我们去商店逛吧你好吗他说了什么也知道明年再见恤"
ENGLISH = ["hello", "world", "good", "day", "the", "i'm", "don't", "ok", "A", "T", "3", "42"]
CHINESE = ["今天", "天气", "不错", "我们", "商店", "逛吧", "什么", "知道", "明年", "再见", "T恤"]
WORDS = ["逛吧 9 v", "真不错 20 a", "T恤 5 n"]
"""The dictionary beside the one of jieba."""


@dataclass(frozen=True)
class Sizes:
    """How large a network is."""

    width: int
    heads: int
    ffn: int
    blocks: int
    tokens: Sequence[str]


def tokens(kind: Kind) -> list[str]:
    """Return the vocabulary of the tiny one."""
    chinese = CHINESE if kind == "words" else []
    return ["<blank>", "<s>", "</s>", *CHARACTERS, *ENGLISH, *chinese, "<unk>"]


TINY: Final[Mapping[Kind, Sizes]] = {
    "characters": Sizes(32, 8, 48, 2, tokens("characters")),  # published: 256, 8, 1024, 4
    "words": Sizes(36, 12, 48, 3, tokens("words")),  # published: 516, 12, 2048, 12
}

USUAL = (-50.0, 1.5, 0.5, 0.0, 0.0, -0.5)
"""Biases of the classes: a mark behind some words, no unknown class."""
NONE = (-50.0, 50.0, -50.0, -50.0, -50.0, -50.0)
COMMAS = (-50.0, 3.0, 1.2, -50.0, -50.0, -50.0)


def config(kind: Kind, sizes: Sizes | None = None) -> dict[str, Any]:
    """Return config.yaml with the keys of the published one."""
    sizes = sizes or TINY[kind]
    return {
        "model": "CTTransformer",
        "model_conf": {
            "ignore_id": 0,
            "embed_unit": sizes.width,
            "att_unit": sizes.width,
            "dropout_rate": 0.1,
            "punc_list": MARKS,
            "punc_weight": [1.0] * len(MARKS),
            "sentence_end_id": 3,
        },
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "input_size": sizes.width,
            "output_size": sizes.width,
            "attention_heads": sizes.heads,
            "linear_units": sizes.ffn,
            "num_blocks": sizes.blocks,
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "attention_dropout_rate": 0.0,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "kernel_size": KERNEL,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
            "padding_idx": 0,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>"},
    }


def configuration(kind: Kind) -> dict[str, Any]:
    """Return configuration.json: which files there are."""
    dictionary = {"jieba_usr_dict": "jieba_usr_dict"} if kind == "words" else {}
    return {
        "framework": "pytorch",
        "task": "punctuation",
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "file_path_metas": {
            "init_param": "model.pt",
            "config": "config.yaml",
            "tokenizer_conf": {"token_list": "tokens.json"},
            **dictionary,
        },
    }


def tensors(
    kind: Kind, sizes: Sizes | None = None, *, bias: Sequence[float] = USUAL, seed: int = 0
) -> Tensors:
    """Return weights under their published names."""
    numbers = torch.Generator().manual_seed(seed)
    sizes = sizes or TINY[kind]
    width = sizes.width

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers) * scale

    found: Tensors = {"embed.weight": random(len(sizes.tokens), width)}

    def linear(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"] = random(out, into, scale=into**-0.5)
        found[f"{name}.bias"] = random(out, scale=0.1)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = 1 + random(width, scale=0.2)
        found[f"{name}.bias"] = random(width, scale=0.2)

    for block in range(sizes.blocks):
        name = f"encoder.encoders.{block - 1}" if block else "encoder.encoders0.0"
        linear(f"{name}.self_attn.linear_out", width, width)
        linear(f"{name}.self_attn.linear_q_k_v", 3 * width, width)
        found[f"{name}.self_attn.fsmn_block.weight"] = random(width, 1, KERNEL, scale=KERNEL**-0.5)
        linear(f"{name}.feed_forward.w_1", sizes.ffn, width)
        linear(f"{name}.feed_forward.w_2", width, sizes.ffn)
        norm(f"{name}.norm1")
        norm(f"{name}.norm2")
    norm("encoder.after_norm")
    linear("decoder", len(MARKS), width)
    found["decoder.bias"] = torch.tensor(bias)
    return found


def write(
    folder: Path,
    kind: Kind = "words",
    sizes: Sizes | None = None,
    *,
    bias: Sequence[float] = USUAL,
    seed: int = 0,
) -> Path:
    """Write a checkpoint and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = sizes or TINY[kind]
    settings = yaml.safe_dump(config(kind, sizes), allow_unicode=True, sort_keys=False)
    (folder / "config.yaml").write_text(settings, encoding="utf-8")
    (folder / "configuration.json").write_text(json.dumps(configuration(kind)))
    (folder / "tokens.json").write_text(json.dumps(sizes.tokens), encoding="utf-8")
    if kind == "words":
        (folder / "jieba_usr_dict").write_text("\n".join(WORDS), encoding="utf-8")
    torch.save(tensors(kind, sizes, bias=bias, seed=seed), folder / "model.pt")
    return folder
