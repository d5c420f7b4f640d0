"""Fine-tuning a masked autoencoder's ViT on labels: a head on the mean of its patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mercore.components import Inputs
from mercore.inputs import frames_of
from mercore.nn import mean_of_samples, normalised
from mercore.tuning import Example, Group, Trainee
from mercore_vit_mae import VitMAE, VitTuning
from mercore_vit_mae._layouts import Sizes
from mercore_vit_mae._network import EPS, Published, write
from mercore_vit_mae._pictures import picture, shown


class VitTrainee(Trainee):
    """A ViT with a norm and a head on the mean of its patches."""

    module: Classifier

    def __init__(self, encoder: VitMAE, tuning: VitTuning, classes: int, *, weights: bool) -> None:
        self._tuning = tuning
        self._crop = encoder.crop
        self._published = Published(encoder)
        sizes = self._published.sizes
        make = self._published.network if weights else self._published.empty
        vit = make(sizes.depth, drop_path=tuning.drop_path)
        vit.set_grad_checkpointing(tuning.recompute)
        self.module = Classifier(vit.requires_grad_(True), sizes, classes)

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return pictures of the clip ``(n, side, side, 3)`` uint8: in training one."""
        pixels, tuning = frames_of(inputs).pixels, self._tuning
        cells = tuning.grid**2 if len(pixels) > 1 else 1
        crop = self._crop if cells == 1 else 1.0
        plan = shown(len(pixels), cells, None if training else tuning.pictures)
        if training:
            plan = plan[[random.integers(len(plan))]]
        side = self._published.sizes.side
        pictures = np.stack([picture(pixels[frames], side, crop) for frames in plan])
        if not training:
            return {"pictures": pictures}
        mirrored = random.random() < tuning.flip
        share = random.beta(tuning.mixup, tuning.mixup) if tuning.mixup else 1.0
        return {
            "pictures": pictures[:, :, ::-1] if mirrored else pictures,
            "share": np.array(share, np.float32),
        }

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return normalised pictures, ``(n, 3, side, side)`` float32, and the sample of each."""
        counts = torch.tensor([len(example["pictures"]) for example in examples])
        pixels = torch.from_numpy(np.concatenate([example["pictures"] for example in examples]))
        mean, std = self._published.told.mean, self._published.told.std
        pictures = normalised(pixels, torch.float32, mean, std)
        batch = {
            "pictures": pictures,
            "samples": torch.arange(len(counts)).repeat_interleave(counts),
        }
        if not self._tuning.mixup or "share" not in examples[0]:
            return batch
        shares = torch.from_numpy(np.stack([example["share"] for example in examples]))
        share = shares.view(-1, 1, 1, 1)
        mixed = share * pictures + (1 - share) * pictures.flip(0)
        return {**batch, "pictures": mixed, "shares": shares}

    def groups(self) -> list[Group]:
        """Return the blocks' parameters, whose rates fall from the head to the patches."""
        sizes, decay = self._published.sizes, self._tuning.layer_decay
        fixed = {f"vit.{name}" for name in self.module.vit.no_weight_decay()}
        layers: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.module.named_parameters():
            key = _layer(name, sizes.depth), parameter.dim() > 1 and name not in fixed
            layers.setdefault(key, []).append(parameter)
        return [
            Group(parameters, decay ** (sizes.depth + 1 - layer), decays)
            for (layer, decays), parameters in layers.items()
        ]

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write timm's layout of a ViT that was fine-tuned on the mean of its patches."""
        named = {name.removeprefix("vit."): tensor for name, tensor in tensors.items()}
        write(folder, named, self._published.sizes, self._published.told, global_pool="avg")


class Classifier(nn.Module):
    """From pictures ``(n, 3, side, side)`` to logits, the mean of those of a sample's pictures."""

    def __init__(self, vit: VisionTransformer, sizes: Sizes, classes: int) -> None:
        super().__init__()
        self.vit = vit
        self.fc_norm = nn.LayerNorm(sizes.dim, eps=EPS)
        if isinstance(vit.norm, nn.LayerNorm):  # of all tokens, or of their mean already
            self.fc_norm.load_state_dict(vit.norm.state_dict(), assign=True)
            self.fc_norm.requires_grad_(True)
        vit.norm = nn.Identity()
        self.head = nn.Linear(sizes.dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """Return ``{"logits": (samples, classes)}``; `samples` says whose picture each one is."""
        tokens = self.vit.forward_features(pictures)  # (n, 1 + patches, dim)
        logits = self.head(self.fc_norm(tokens[:, 1:].mean(1))).float()  # (n, classes)
        if self.training:  # one picture a sample
            return {"logits": logits}
        return {"logits": mean_of_samples(logits, samples)}


def _layer(name: str, depth: int) -> int:
    """Return how deep a parameter lies: 0 for the patches, depth + 1 for the head."""
    if name.startswith("vit.blocks."):
        return int(name.split(".")[2]) + 1
    return 0 if name.startswith("vit.") else depth + 1
