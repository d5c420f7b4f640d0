"""The masked autoencoder: a ViT that sees some patches, and a decoder that predicts the others.

He et al. 2022, arXiv:2111.06377, section 3; names and initial weights as in the authors' code, so
that their checkpoints can be gone on with.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models import checkpoint_seq
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mercore_vit_mae import VitPretraining
from mercore_vit_mae._layouts import Sizes
from mercore_vit_mae._network import EPS


class Decoder(nn.Module):
    """Predicts all patches from the tokens of some."""

    def __init__(self, sizes: Sizes, options: VitPretraining) -> None:
        super().__init__()
        dim, heads = options.decoder_dim, options.decoder_heads
        norm: Any = partial(nn.LayerNorm, eps=EPS)
        blocks = (
            Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in range(options.decoder_depth)
        )
        self.decoder_embed = nn.Linear(sizes.dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, sizes.tokens, dim))
        self.decoder_blocks = nn.Sequential(*blocks)
        self.decoder_norm = norm(dim)
        self.decoder_pred = nn.Linear(dim, 3 * sizes.patch**2)

    def forward(self, tokens: Tensor, places: Tensor, recompute: bool) -> Tensor:
        """Return ``(n, patches, pixels)``; `places` says where each patch is among the tokens."""
        x = self.decoder_embed(tokens)  # (n, 1 + shown, dim)
        count, patches = places.shape
        hidden = self.mask_token.expand(count, patches + 1 - x.shape[1], -1).to(x.dtype)
        shuffled = torch.cat([x[:, 1:], hidden], dim=1)  # (n, patches, dim)
        ordered = shuffled.gather(1, places.unsqueeze(2).expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], ordered], dim=1) + self.decoder_pos_embed
        x = self.decoder_norm(through(self.decoder_blocks, x, recompute))
        predicted: Tensor = self.decoder_pred(x)[:, 1:]
        return predicted


class MaskedAutoencoder(nn.Module):
    """From pictures ``(n, 3, side, side)`` and noise ``(n, patches)`` to the loss.

    The patches with the least noise are shown, the others are predicted.
    """

    def __init__(self, vit: VisionTransformer, decoder: Decoder, options: VitPretraining) -> None:
        super().__init__()
        self.vit, self.decoder = vit, decoder
        self.mask, self.normalise, self.recompute = (
            options.mask, options.normalise, options.recompute
        )  # fmt: skip

    def forward(self, pictures: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Return the loss, the ``predictions`` ``(n, patches, pixels)`` and the ``hidden``."""
        order = noise.argsort(dim=1)
        places = order.argsort(dim=1)  # of each patch in that order
        shown = int(noise.shape[1] * (1 - self.mask))
        tokens = self._seen(pictures, order[:, :shown])
        predicted = self.decoder(tokens, places, self.recompute and self.training)
        hidden = (places >= shown).float()
        errors = (predicted.float() - self._targets(pictures)).square().mean(dim=2)
        loss = (errors * hidden).sum() / hidden.sum()
        return {"loss": loss, "predictions": predicted, "hidden": hidden}

    def _seen(self, pictures: Tensor, shown: Tensor) -> Tensor:
        """Return the tokens ``(n, 1 + shown, dim)`` of some patches, behind the final norm."""
        vit: Any = self.vit  # whose class token and positions timm types as if they could lack
        x = vit.patch_embed(pictures) + vit.pos_embed[:, 1:]  # (n, patches, dim)
        x = x.gather(1, shown.unsqueeze(2).expand(-1, -1, x.shape[2]))
        first = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first.to(x.dtype), x], dim=1)
        tokens: Tensor = vit.norm(through(vit.blocks, x, self.recompute and self.training))
        return tokens

    def _targets(self, pictures: Tensor) -> Tensor:
        """Return the pixels of each patch, row by row, its three colours side by side."""
        size = self.vit.patch_embed.patch_size[0]
        count, colours, side, _ = pictures.shape
        across = side // size
        cells = pictures.reshape(count, colours, across, size, across, size)
        pixels = cells.permute(0, 2, 4, 3, 5, 1).reshape(count, across**2, -1).float()
        if not self.normalise:
            return pixels
        variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
        return (pixels - mean) / (variance + 1e-6).sqrt()


def through(blocks: nn.Sequential, x: Tensor, recompute: bool) -> Tensor:
    """Return what the blocks make of `x`, computed again in the backward pass or kept."""
    out: Tensor = checkpoint_seq(blocks, x) if recompute else blocks(x)
    return out


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw initial weights, as the authors of MAE do: theirs are not those of timm."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv2d):  # of the patches, as if it were linear
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
    for name, parameter in module.named_parameters():
        leaf = name.rpartition(".")[2]
        if leaf in ("cls_token", "mask_token"):
            nn.init.normal_(parameter, std=0.02)
        elif leaf in ("pos_embed", "decoder_pos_embed"):
            parameter.copy_(positions(parameter))


def positions(like: Tensor) -> Tensor:
    """Return the sines and cosines of the places of patches, ``(1, 1 + patches, dim)``.

    The first half of the width is of the column, the second of the row; the class token has 0.
    """
    _, tokens, dim = like.shape
    across, waves = round((tokens - 1) ** 0.5), dim // 4
    angles = torch.outer(torch.arange(across), 10_000 ** -(torch.arange(waves) / waves))
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (across, dim / 2)
    patches = torch.cat([line.repeat(across, 1), line.repeat_interleave(across, dim=0)], dim=1)
    return torch.cat([patches.new_zeros(1, dim), patches]).unsqueeze(0)
