"""Writes tiny random checkpoints in the published layouts of Qwen-Audio and Qwen2-Audio."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

Layout = Literal["qwen_audio", "qwen2_audio"]
Weights = dict[str, torch.Tensor]

MERGES = ["th", "he", "the", "an", "and", "你", "好", "你好"]
"""Pieces of more than a byte, in the order of their ranks; each is made of earlier ones."""
RANKS = 256 + len(MERGES) + 2  # a character of three bytes takes a merge more
WORDS = (  # of the published tokenizer.json
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = 3522  # Qwen-Audio's tokens behind the ranks: 155165 - 151643

# The keys of the published config.json; the sizes are those of tests.
QWEN_AUDIO: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "attn_dropout_prob": 0.0,
    "bf16": False,
    "fp16": False,
    "fp32": False,
    "emb_dropout_prob": 0.0,
    "intermediate_size": 96,
    "initializer_range": 0.02,
    "kv_channels": 16,
    "layer_norm_epsilon": 1e-05,
    "model_type": "qwen",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "max_position_embeddings": 8192,
    "no_bias": True,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "tokenizer_type": "QWenTokenizer",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "vocab_size": RANKS + SPECIAL + 14,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "audio": {
        "n_mels": 80,
        "n_ctx": 1500,
        "n_state": 32,
        "n_head": 2,
        "n_layer": 2,
        "output_dim": 64,
        "avg_pool": True,
        "add_audio_bos_eos_token": True,
        "audio_start_id": RANKS + SPECIAL - 2,
    },
}
QWEN2_AUDIO: dict[str, Any] = {
    "architectures": ["Qwen2AudioForConditionalGeneration"],
    "audio_config": {
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "attention_dropout": 0.0,
        "d_model": 32,
        "dropout": 0.0,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "encoder_layerdrop": 0.0,
        "encoder_layers": 2,
        "initializer_range": 0.02,
        "max_source_positions": 1500,
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 128,
        "scale_embedding": False,
    },
    "audio_token_index": RANKS + 3,
    "ignore_index": -100,
    "model_type": "qwen2_audio",
    "text_config": {
        "bos_token_id": RANKS,
        "eos_token_id": RANKS + 2,
        "hidden_size": 64,
        "intermediate_size": 48,
        "max_position_embeddings": 8192,
        "model_type": "qwen2",
        "num_attention_heads": 4,
        "num_hidden_layers": 5,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000,
        "torch_dtype": "bfloat16",
        "use_mrope": False,
        "vocab_size": RANKS + 20,
    },
    "torch_dtype": "bfloat16",
    "vocab_size": RANKS + 20,
}
CONFIGS: dict[Layout, dict[str, Any]] = {"qwen_audio": QWEN_AUDIO, "qwen2_audio": QWEN2_AUDIO}


def write(
    folder: Path,
    layout: Layout = "qwen_audio",
    config: Mapping[str, Any] | None = None,
    *,
    shards: int = 1,
    suffix: Literal[".safetensors", ".bin"] = ".safetensors",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the checkpoint into the folder, and return it; with 0 shards all but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or CONFIGS[layout]
    write_json(folder / "config.json", config)
    if layout == "qwen_audio":
        write_tiktoken(folder / "qwen.tiktoken")
    else:
        write_tokenizer(folder / "tokenizer.json")
    if shards:
        weights = published(layout, config)
        save(folder, {name: value.to(dtype) for name, value in weights.items()}, shards, suffix)
    return folder


def published(layout: Layout, config: Mapping[str, Any] | None = None) -> Weights:
    """Return random weights by their published names."""
    own = config or CONFIGS[layout]
    return _random(_qwen_audio(own) if layout == "qwen_audio" else _qwen2_audio(own))


def ranks() -> dict[bytes, int]:
    """Return the number of each piece of text."""
    pieces = [bytes([byte]) for byte in range(256)]
    for merge in MERGES:
        piece = merge.encode()
        if len(merge) == 1:
            pieces.append(piece[:2])
        pieces.append(piece)
    return {piece: rank for rank, piece in enumerate(pieces)}


def write_tiktoken(file: Path) -> None:
    """Write the pieces as Qwen's first tokenizer has them: base64 and number."""
    lines = [f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in ranks().items()]
    file.write_text("".join(lines), encoding="utf-8")


def write_tokenizer(file: Path) -> None:
    """Write the same pieces as tokenizer.json has them, and Qwen2-Audio's special tokens."""
    names = {byte: letter for letter, byte in letters().items()}
    spelt = {piece: "".join(names[byte] for byte in piece) for piece in ranks()}
    merges = [
        (spelt[piece[:cut]], spelt[piece[cut:]])
        for piece in ranks()
        if len(piece) > 1
        for cut in [_cut(piece)]
    ]
    vocabulary = {spelt[piece]: rank for piece, rank in ranks().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ("endoftext", "im_start", "im_end", "AUDIO", "audio_bos", "audio_eos")
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in special])
    tokenizer.save(str(file))


def letters() -> dict[str, int]:
    """Return the byte that each letter of tokenizer.json stands for."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


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


def _cut(piece: bytes) -> int:
    """Return where the piece is cut into two earlier ones."""
    return next(
        cut
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in ranks() and piece[cut:] in ranks()
    )


def _qwen_audio(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, half = config["hidden_size"], config["intermediate_size"] // 2
    audio = config["audio"]
    width = audio["n_state"]
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (config["vocab_size"], dim)}
    block: dict[str, tuple[int, ...]] = {
        "ln_1.weight": (dim,),
        "attn.c_attn.weight": (3 * dim, dim),
        "attn.c_attn.bias": (3 * dim,),
        "attn.c_proj.weight": (dim, dim),
        "ln_2.weight": (dim,),
        "mlp.w1.weight": (half, dim),
        "mlp.w2.weight": (half, dim),
        "mlp.c_proj.weight": (dim, half),
    }
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"transformer.h.{number}.{name}": shape for name, shape in block.items()}
    shapes |= {"transformer.ln_f.weight": (dim,)}
    own: dict[str, tuple[int, ...]] = {
        "conv1.weight": (width, audio["n_mels"], 3),
        "conv1.bias": (width,),
        "conv2.weight": (width, width, 3),
        "conv2.bias": (width,),
        "positional_embedding": (audio["n_ctx"], width),
        "ln_post.weight": (width,),
        "ln_post.bias": (width,),
        "proj.weight": (dim, width),
        "proj.bias": (dim,),
        "audio_bos_eos_token.weight": (2, dim),
    }
    for number in range(audio["n_layer"]):
        names = ("attn.query", "attn.value", "attn.out")
        layer = {f"{name}.weight": (width, width) for name in [*names, "attn.key"]}
        bias: dict[str, tuple[int, ...]] = {f"{name}.bias": (width,) for name in names}
        norms = {f"{n}.{k}": (width,) for n in ("attn_ln", "mlp_ln") for k in ("weight", "bias")}
        mlp: dict[str, tuple[int, ...]] = {
            "mlp.0.weight": (4 * width, width),
            "mlp.0.bias": (4 * width,),
            "mlp.2.weight": (width, 4 * width),
            "mlp.2.bias": (width,),
        }
        for part in (layer, bias, norms, mlp):
            own |= {f"blocks.{number}.{name}": shape for name, shape in part.items()}
    shapes |= {f"transformer.audio.{name}": shape for name, shape in own.items()}
    return shapes | {"lm_head.weight": (config["vocab_size"], dim)}


def _qwen2_audio(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    audio, text = config["audio_config"], config["text_config"]
    width, inner = audio["d_model"], audio["encoder_ffn_dim"]
    dim, middle = text["hidden_size"], text["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "audio_tower.conv1.weight": (width, audio["num_mel_bins"], 3),
        "audio_tower.conv1.bias": (width,),
        "audio_tower.conv2.weight": (width, width, 3),
        "audio_tower.conv2.bias": (width,),
        "audio_tower.embed_positions.weight": (audio["max_source_positions"], width),
        "audio_tower.layer_norm.weight": (width,),
        "audio_tower.layer_norm.bias": (width,),
        "multi_modal_projector.linear.weight": (dim, width),
        "multi_modal_projector.linear.bias": (dim,),
        "language_model.model.embed_tokens.weight": (text["vocab_size"], dim),
        "language_model.model.norm.weight": (dim,),
        "language_model.lm_head.weight": (text["vocab_size"], dim),
    }
    layer: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{part}_proj.weight": (width, width) for part in ("q", "k", "v", "out")},
        **{f"self_attn.{part}_proj.bias": (width,) for part in ("q", "v", "out")},
        **{
            f"{norm}.{kind}": (width,)
            for norm in ("self_attn_layer_norm", "final_layer_norm")
            for kind in ("weight", "bias")
        },
        "fc1.weight": (inner, width),
        "fc1.bias": (inner,),
        "fc2.weight": (width, inner),
        "fc2.bias": (width,),
    }
    block: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{part}_proj.weight": (dim, dim) for part in "qkvo"},
        **{f"self_attn.{part}_proj.bias": (dim,) for part in "qkv"},
        "mlp.gate_proj.weight": (middle, dim),
        "mlp.up_proj.weight": (middle, dim),
        "mlp.down_proj.weight": (dim, middle),
        "input_layernorm.weight": (dim,),
        "post_attention_layernorm.weight": (dim,),
    }
    for number in range(audio["encoder_layers"]):
        shapes |= {f"audio_tower.layers.{number}.{name}": s for name, s in layer.items()}
    for number in range(text["num_hidden_layers"]):
        shapes |= {f"language_model.model.layers.{number}.{name}": s for name, s in block.items()}
    return shapes


def _random(shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Return weights large enough that each of them shows in the output."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) == 1 and name.endswith("weight"):  # norms
            weights[name] = 1 + 0.3 * value
        else:
            sources = value[0].numel() if len(shape) > 1 and "embed" not in name else 4
            weights[name] = value / sources**0.5
    return weights
