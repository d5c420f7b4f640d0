"""The network of a published checkpoint: timm's VisionTransformer, with its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mercore.checkpoints import locate
from mercore.nn import Checkpoint, Rule, built, fill
from mercore_vit_mae import VitMAE
from mercore_vit_mae._config import CONFIG, PREPROCESSOR, Told, told
from mercore_vit_mae._layouts import Sizes, layout_of, rules_of, sizes_of

WANTED: Final = [("*.safetensors", "*.bin", "*.pth", "*.pt")]
USEFUL: Final = (CONFIG, PREPROCESSOR, "*.index.json")
Module = TypeVar("Module", bound=nn.Module)

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

    def decoder(self, module: Module) -> Module | None:
        """Return the decoder of the pre-training with its weights; None where none is there.

        Raises CheckpointError for one of other sizes.
        """
        rules = self._layout.decoder
        if not any(re.fullmatch(rule.source, name) for rule in rules for name in self.checkpoint):
            return None
        rest = Rule(r".+", None)
        return fill(module, self.checkpoint, (*rules, rest), dtype=torch.float32, device="cpu")

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


def write(
    folder: Path, tensors: Mapping[str, Tensor], sizes: Sizes, told: Told, *, global_pool: str
) -> None:
    """Write weights under timm's names, with what timm's config.json says of them."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architecture": f"vit_base_patch{sizes.patch}_{sizes.side}",
        "num_features": sizes.dim,
        "model_args": {
            "embed_dim": sizes.dim, "depth": sizes.depth, "num_heads": sizes.heads,
            "mlp_ratio": sizes.hidden / sizes.dim, "global_pool": global_pool,
        },
        "pretrained_cfg": {"mean": told.mean, "std": told.std,
                           "input_size": [3, sizes.side, sizes.side]},
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
