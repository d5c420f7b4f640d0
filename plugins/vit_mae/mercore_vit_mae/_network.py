"""The network of a published checkpoint: timm's VisionTransformer, with its weights."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mercore.checkpoints import locate
from mercore.nn import Checkpoint, built, fill
from mercore_vit_mae import VitMAE
from mercore_vit_mae._config import CONFIG, PREPROCESSOR, told
from mercore_vit_mae._layouts import Sizes, layout_of, rules_of, sizes_of

WANTED: Final = [("*.safetensors", "*.bin", "*.pth", "*.pt")]
USEFUL: Final = (CONFIG, PREPROCESSOR, "*.index.json")
EPS: Final = 1e-6  # of every layer norm, in training as here


class Published:
    """A checkpoint and what it says of itself."""

    def __init__(self, options: VitMAE) -> None:
        path = locate(options.checkpoint, wanted=WANTED, useful=USEFUL)
        self.checkpoint = Checkpoint(path)
        self._layout = layout_of(self.checkpoint)
        self.told = told(path)
        self.sizes = sizes_of(self.checkpoint, self._layout, self.told, options.heads)

    def network(
        self,
        blocks: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        drop_path: float = 0.0,
    ) -> VisionTransformer:
        """Return the first `blocks` blocks with their weights; all have the final norm too."""
        return fill(
            self.empty(blocks, drop_path),
            self.checkpoint,
            rules_of(self._layout, self.sizes, blocks),
            dtype=dtype,
            device=device,
        )

    def empty(self, blocks: int, drop_path: float = 0.0) -> VisionTransformer:
        """Return the first `blocks` blocks, whose parameters take no memory yet."""
        vit = built(lambda: vision_transformer(self.sizes, blocks, drop_path))
        if blocks < self.sizes.depth:
            vit.norm = nn.Identity()
        elif self.sizes.mean_norm:
            vit.norm = built(lambda: MeanNorm(self.sizes.dim, eps=EPS))
        return vit


def vision_transformer(sizes: Sizes, blocks: int, drop_path: float = 0.0) -> VisionTransformer:
    """Return a network of these sizes, without a head."""
    return VisionTransformer(
        img_size=sizes.side,
        patch_size=sizes.patch,
        embed_dim=sizes.dim,
        depth=blocks,
        num_heads=sizes.heads,
        mlp_ratio=sizes.hidden / sizes.dim,
        num_classes=0,
        drop_path_rate=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=EPS),
        weight_init="skip",
    )


class MeanNorm(nn.LayerNorm):
    """The final norm of a network fine-tuned on the mean of its patches.

    The mean is normed and stands for each token, so that pooling gives it, for any layers.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens[:, 1:].mean(1, keepdim=True)).expand_as(tokens)
