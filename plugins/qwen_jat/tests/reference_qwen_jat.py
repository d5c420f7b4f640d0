"""Qwen-Audio and its language model written out as formulas, in float64.

Independent of the plugin: neither its code nor any module of transformers; the spectrogram alone is
that of transformers' ``WhisperFeatureExtractor``. Attention is over explicit scores, the rotation
of positions over complex numbers. Qwen2-Audio is transformers' own, processor included.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from mercore.media import FloatArray

Weights = Mapping[str, torch.Tensor]


@cache
def second(folder: str) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """Return transformers' own Qwen2-Audio with the checkpoint, and its processor."""
    network = Qwen2AudioForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    tokens = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=f"{folder}/tokenizer.json"
    )
    tokens.pad_token = "<|endoftext|>"
    extract = WhisperFeatureExtractor(feature_size=128)  # type: ignore[no-untyped-call]
    processor = Qwen2AudioProcessor(extract, tokens)  # type: ignore[no-untyped-call]
    network.train(False)
    return network, processor


def whisper_mel(samples: FloatArray, bins: int) -> torch.Tensor:
    """Return ``(bins, 3000)``."""
    extract = WhisperFeatureExtractor(feature_size=bins)  # type: ignore[no-untyped-call]
    found = extract(samples[:480_000], sampling_rate=16_000, return_tensors="pt")
    features: torch.Tensor = found["input_features"][0]
    return features


def audio_rows(weights: Weights, config: Mapping[str, Any], samples: FloatArray) -> torch.Tensor:
    """Return the audio span of Qwen-Audio, ``(rows + 2, hidden)``, its markers included."""
    w = _part(weights, "transformer.audio.")
    audio = config["audio"]
    mel_length = min(len(samples), 480_000) // 160
    frames = (mel_length - 1) // 2 + 1
    x = whisper_mel(samples, audio["n_mels"]).double()[None, :, : 2 * frames]
    x = _gelu(F.conv1d(x, w["conv1.weight"], w["conv1.bias"], padding=1))
    x = _gelu(F.conv1d(x, w["conv2.weight"], w["conv2.bias"], padding=1, stride=2))
    x = x[0].T + w["positional_embedding"][:frames]  # (frames, width)
    for number in range(audio["n_layer"]):
        x = _encoder_layer(x, _part(w, f"blocks.{number}."), audio["n_head"])
    pairs = len(x) // 2
    x = x[: 2 * pairs].reshape(pairs, 2, -1).mean(1)
    x = _norm(x, w["ln_post.weight"], w["ln_post.bias"]) @ w["proj.weight"].T + w["proj.bias"]
    first, last = w["audio_bos_eos_token.weight"]
    return torch.cat([first[None], x, last[None]])


def hidden_states(
    weights: Weights, config: Mapping[str, Any], x: torch.Tensor
) -> list[torch.Tensor]:
    """Return all hidden states of the language model, the last one normed.

    `x` is what it reads: ``(tokens, hidden)``.
    """
    epsilon, heads = config["layer_norm_epsilon"], config["num_attention_heads"]
    states, depth = [x], config["num_hidden_layers"]
    turn = _turns(len(x), config["kv_channels"], config["rotary_emb_base"])
    for number in range(depth):
        w = _part(weights, f"transformer.h.{number}.")
        y = _rms(x, w["ln_1.weight"], epsilon)
        q, k, v = (y @ w["attn.c_attn.weight"].T + w["attn.c_attn.bias"]).chunk(3, -1)
        q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in (q, k, v))
        scores = _turned(q, turn) @ _turned(k, turn).mT / q.shape[-1] ** 0.5
        later = torch.ones_like(scores[0]).triu(1).bool()
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        x = x + mixed.transpose(0, 1).flatten(1) @ w["attn.c_proj.weight"].T
        y = _rms(x, w["ln_2.weight"], epsilon)
        gate = y @ w["mlp.w2.weight"].T
        inner = (y @ w["mlp.w1.weight"].T) * gate / (1 + torch.exp(-gate))
        x = x + inner @ w["mlp.c_proj.weight"].T
        states.append(x)
    states[-1] = _rms(x, weights["transformer.ln_f.weight"].double(), epsilon)
    return states


def _encoder_layer(x: torch.Tensor, w: Weights, heads: int) -> torch.Tensor:
    y = _norm(x, w["attn_ln.weight"], w["attn_ln.bias"])
    q = y @ w["attn.query.weight"].T + w["attn.query.bias"]
    k = y @ w["attn.key.weight"].T
    v = y @ w["attn.value.weight"].T + w["attn.value.bias"]
    q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in (q, k, v))
    mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    x = x + mixed.transpose(0, 1).flatten(1) @ w["attn.out.weight"].T + w["attn.out.bias"]
    y = _norm(x, w["mlp_ln.weight"], w["mlp_ln.bias"])
    y = _gelu(y @ w["mlp.0.weight"].T + w["mlp.0.bias"])
    return x + y @ w["mlp.2.weight"].T + w["mlp.2.bias"]


def _part(weights: Weights, prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value.double()
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def _rms(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight


def _turns(tokens: int, width: int, base: float) -> torch.Tensor:
    """Return ``(tokens, width / 2)`` complex numbers of length 1."""
    speeds = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * speeds
    return torch.polar(torch.ones_like(angles), angles)


def _turned(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    real, imaginary = x.chunk(2, -1)
    turned = torch.complex(real, imaginary) * turns
    return torch.cat([turned.real, turned.imag], -1)
