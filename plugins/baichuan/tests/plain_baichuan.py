"""Baichuan written out in numpy, float64: one text, one token after another, one head at a time.

It shares nothing with the code under test: neither LlamaModel nor torch's attention, and positions
are those of the published code (ALiBi adds slope times the position of the key, not the distance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def hidden_states(
    config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], ids: Sequence[int]
) -> list[Array]:
    """Return hidden states 0 (embedding) to the last, which is normed: ``(tokens, dim)``."""
    arrays = {name: tensor.double().numpy() for name, tensor in weights.items()}
    state = arrays["model.embed_tokens.weight"][list(ids)]
    states = [state]
    for block in range(config["num_hidden_layers"]):
        at = f"model.layers.{block}."
        own = {k.removeprefix(at): v for k, v in arrays.items() if k.startswith(at)}
        state = _block(config, own, state)
        states.append(state)
    states[-1] = np.stack([_norm(row, arrays["model.norm.weight"]) for row in states[-1]])
    return states


def _block(config: Mapping[str, Any], own: Mapping[str, Array], state: Array) -> Array:
    normed = [_norm(row, own["input_layernorm.weight"]) for row in state]
    packed = [own["self_attn.W_pack.weight"] @ row for row in normed]
    mixed = _attention(config, packed)
    after = state + np.stack([own["self_attn.o_proj.weight"] @ row for row in mixed])
    out = []
    for row in after:
        normed_row = _norm(row, own["post_attention_layernorm.weight"])
        gate = own["mlp.gate_proj.weight"] @ normed_row
        inner = gate / (1 + np.exp(-gate)) * (own["mlp.up_proj.weight"] @ normed_row)
        out.append(row + own["mlp.down_proj.weight"] @ inner)
    return np.stack(out)


def _attention(config: Mapping[str, Any], packed: Sequence[Array]) -> list[Array]:
    heads, wide = config["num_attention_heads"], config["hidden_size"]
    each = wide // heads
    rotary = "max_position_embeddings" in config
    slopes = [0.0] * heads if rotary else bloom_slopes(heads)
    mixed = [np.zeros(wide) for _ in packed]
    for head in range(heads):
        part = slice(head * each, (head + 1) * each)
        for i, row in enumerate(packed):
            query = _turned(row[:wide][part], i if rotary else 0)
            scores = np.array(
                [
                    query
                    @ _turned(packed[j][wide : 2 * wide][part], j if rotary else 0)
                    / np.sqrt(each)
                    + slopes[head] * j
                    for j in range(i + 1)
                ]
            )
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            for j, share in enumerate(shares):
                mixed[i][part] += share * packed[j][2 * wide :][part]
    return mixed


def _turned(vector: Array, position: int) -> Array:
    """Return the vector with rotary positions: pairs (k, k + half) as complex numbers."""
    half = len(vector) // 2
    angles = position * 10_000.0 ** (-np.arange(half) / half)
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag])


def _norm(row: Array, weight: Array) -> Array:
    normed: Array = row / np.sqrt((row**2).mean() + 1e-6) * weight
    return normed


def bloom_slopes(heads: int) -> list[float]:
    """Return ALiBi's slopes as transformers computes them for Bloom."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor  # takes seconds

    ones = torch.ones(1, 2)  # position 1 times the slope
    bias = build_alibi_tensor(ones, heads, torch.float32)
    return [float(value) for value in bias[:, 0, 1]]
