"""The modules: transformers' InternViT, cut to the blocks needed, and the CLIP projector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import nn
from transformers import InternVLVisionConfig
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from mercore_internvit._configs import Sizes

CLIP_DIM: Final = 768
CLIP_HEADS: Final = 16
POSITIONS: Final = "vision.embeddings.position_embeddings"


class Tower(nn.Module):
    """The first `blocks` blocks of an InternViT, with the CLIP projector where it is asked for."""

    def __init__(self, sizes: Sizes, blocks: int, projector: bool) -> None:
        super().__init__()
        config = InternVLVisionConfig(
            hidden_size=sizes.hidden_size,
            num_hidden_layers=blocks,
            num_attention_heads=sizes.num_attention_heads,
            intermediate_size=sizes.intermediate_size,
            attention_bias=sizes.qkv_bias,
            use_qk_norm=sizes.qk_normalization,
            norm_type=sizes.norm_type,
            layer_norm_eps=sizes.layer_norm_eps,
            hidden_act=sizes.hidden_act,
            image_size=sizes.image_size,
            patch_size=sizes.patch_size,
            use_mean_pooling=True,  # no norm behind the last block
        )
        self.vision = InternVLVisionModel(config)
        self.vision.set_attn_implementation("sdpa")
        layers: Any = self.vision.encoder.layer
        if sizes.qk_normalization:
            for layer in layers:  # transformers always takes 1e-6 here
                layer.attention.q_norm.variance_epsilon = sizes.layer_norm_eps
                layer.attention.k_norm.variance_epsilon = sizes.layer_norm_eps
        self.clip_projector = AttentionPooling(sizes.hidden_size) if projector else None

    def leave_out(self, first: int) -> None:
        """Take out what is in front of the hidden state `first`: embeddings and `first` blocks."""
        vision: Any = self.vision
        vision.embeddings = nn.Identity()
        for number in range(first):  # the others keep their numbers
            vision.encoder.layer[number] = nn.Identity()

    def cast(self, dtype: torch.dtype, *, but: str) -> None:
        """Give all weights that type, but float32 to those whose names match the expression."""
        for name, parameter in self.named_parameters():
            kind = torch.float32 if re.fullmatch(but, name) else dtype
            parameter.data = parameter.data.to(kind)

    def embedded(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the hidden state 0, ``(n, tokens, dim)``, of normalised pictures."""
        embedded: torch.Tensor = self.vision.embeddings(pictures)
        return embedded

    def states(self, hidden: torch.Tensor, layers: Sequence[int], first: int = 0) -> torch.Tensor:
        """Return the sum of the hidden states `layers` in float32, ``(n, tokens, dim)``.

        `hidden` is the state `first`; none of the layers is in front of it.
        """
        total = hidden.float() if first in layers else None
        for number in range(first, max(layers)):
            hidden = self.vision.encoder.layer[number](hidden)
            if number + 1 in layers:
                total = hidden.float() if total is None else total + hidden.float()
        assert total is not None
        return total

    def pooled(
        self, states: torch.Tensor, pool: Literal["cls", "mean", "clip_proj"]
    ) -> torch.Tensor:
        """Return one row a picture, of ``(n, tokens, dim)``."""
        if pool == "cls":
            return states[:, 0]
        if pool == "mean":
            return states[:, 1:].mean(1)
        assert self.clip_projector is not None
        embedded: torch.Tensor = self.clip_projector(states.to(self.clip_projector.q.weight.dtype))
        return embedded

    def set_positions(self, positions: torch.Tensor) -> None:
        """Replace the position embeddings, ``(1, 1 + patches, dim)``, keeping type and device."""
        old = self.vision.embeddings.position_embeddings
        new = positions.to(old.device, old.dtype)
        self.vision.embeddings.position_embeddings = nn.Parameter(new, requires_grad=False)


class AttentionPooling(nn.Module):
    """Attends to all tokens with their mean as the only query: ``(batch, 768)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(width, eps=1e-5)
        self.norm_k = nn.LayerNorm(width, eps=1e-5)
        self.norm_v = nn.LayerNorm(width, eps=1e-5)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, CLIP_DIM)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of ``(batch, tokens, width)``."""
        query = self._heads(self.q(self.norm_q(tokens.mean(1, keepdim=True))))
        key = self._heads(self.k(self.norm_k(tokens)))
        value = self._heads(self.v(self.norm_v(tokens)))
        pooled = F.scaled_dot_product_attention(query, key, value)  # (batch, heads, 1, width/heads)
        projected: torch.Tensor = self.proj(pooled.flatten(1))
        return projected

    @staticmethod
    def _heads(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.reshape(*tokens.shape[:2], CLIP_HEADS, -1).transpose(1, 2)


def resized_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Return the position embeddings for `side` x `side` patches, in float32.

    As the published code does it: the class token's stays, the others are a picture that is
    resized bicubically.
    """
    own, patches = positions[:, :1].float(), positions[:, 1:].float()
    old = round(patches.shape[1] ** 0.5)
    picture = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([own, picture.flatten(2).transpose(1, 2)], dim=1)
