"""The network of a published checkpoint: transformers' LlamaModel, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from mercore.nn import Checkpoint, built, fill
from mercore_baichuan._alibi import NoRotation
from mercore_baichuan._layouts import Sizes, check_names, located, rules, sizes_of


@dataclass(frozen=True)
class Published:
    """A checkpoint and its sizes; its weights are looked at when a network is filled."""

    path: Path
    """The folder, or the file, of the weights."""
    folder: Path
    sizes: Sizes

    def network(
        self,
        blocks: int,
        *,
        norm: bool,
        dtype: torch.dtype,
        device: str,
        float32: str | None = None,
    ) -> LlamaModel:
        """Return the first blocks with their weights, and the final norm if wanted.

        Weights whose names match `float32` have that type in place of `dtype`.
        """
        checkpoint = Checkpoint(self.path)
        check_names(checkpoint, self.sizes, blocks)
        where = rules(blocks, norm)
        empty = self.empty(blocks, norm=norm)
        return fill(empty, checkpoint, where, dtype=dtype, device=device, float32=float32)

    def empty(self, blocks: int, *, norm: bool) -> LlamaModel:
        """Return the same with parameters that take no memory yet."""
        return built(lambda: _network(self.sizes, blocks, norm))


def published(checkpoint: str) -> Published:
    """Return what the checkpoint is; raises CheckpointError where it is no Baichuan."""
    path = located(checkpoint)
    folder = path.parent if path.is_file() else path
    return Published(path, folder, sizes_of(folder))


def _network(sizes: Sizes, blocks: int, norm: bool) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=blocks,
        num_attention_heads=sizes.num_attention_heads,
        hidden_act=sizes.hidden_act,
        rms_norm_eps=sizes.rms_norm_eps,
        max_position_embeddings=sizes.context,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        pad_token_id=None,
    )
    config._attn_implementation = "sdpa"
    model = LlamaModel(config)
    if not sizes.rotary:
        model.register_module("rotary_emb", NoRotation())
    if not norm:
        model.register_module("norm", nn.Identity())
    return model
