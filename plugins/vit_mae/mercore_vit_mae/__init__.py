"""Pictures of faces, seen by a vision transformer that was pre-trained as a masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints, hookimpl
from mercore.backends import OnnxOptions
from mercore.components import Encode, Encoder
from mercore.media import Spec, Video
from mercore.tuning import Classifying, Trainee, Tuning

__version__ = "0.1.0"

PUBLISHED: Final = "timm/vit_base_patch16_224.mae"


class VitTuning(Classifying):
    """Fine-tuning on labels: a head on the mean of the patches, behind a norm of its own.

    An example is one picture of a clip, drawn anew in each epoch: a frame, or with ``grid: n`` a
    grid of n x n frames, as section 2.2.1 of the pipeline's paper trains on clips; a still image,
    a clip of one frame, stays single. An evaluation looks at the picture in the middle. The
    defaults are those of section 3.2 where it gives them (AdamW, lr 2e-3, batch 1024, 100 epochs),
    else those of He et al. 2022, table 9, for ViT-Base (layer decay 0.65, drop path 0.1, betas .9
    and .999, weight decay .05, 5 epochs of warm-up of 100, smoothing 0.1, mixup 0).
    """

    epochs: float = Field(default=100, gt=0)
    batch: int = Field(default=1024, ge=1)
    at_once: int = Field(default=64, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    grid: int = Field(default=1, ge=1, le=14)
    """Put grid x grid frames of a clip into each picture; use the same for its features."""
    layer_decay: float = Field(default=0.65, gt=0, le=1)
    """The learning rate of a block in terms of that of the block behind it."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """The share of samples for which the last block is left out; linearly fewer before it."""
    mixup: float = Field(default=0.0, ge=0)
    """Mix pairs of pictures by a share from Beta(mixup, mixup) (Zhang et al. 2018); 0 for none."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """How often a picture is mirrored."""

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network with its head."""
        from mercore_vit_mae._tuning import VitTrainee

        assert isinstance(encoder, VitMAE)
        return VitTrainee(encoder, self, classes, weights=weights)

    def trained(self, encoder: Encoder, checkpoint: Path) -> Encoder:
        """Return the encoder of the checkpoint, which sees the pictures that it was trained on."""
        own = super().trained(encoder, checkpoint)
        return type(own).model_validate(own.model_dump(exclude_unset=True) | {"grid": self.grid})


class VitMAE(OnnxOptions, Encoder):
    """What a masked autoencoder's ViT sees in each picture: ``(pictures, 768)`` for ViT-Base.

    One row a frame, or with ``grid: n`` one row for n x n frames of a clip in one picture. A row is
    the mean of the picture's patch tokens or its class token, behind the final norm. Of several
    `layers` the rows are averaged or summed; 0 is what the first block reads, and of the layers
    only the last is normed, so the others come at another scale. In a checkpoint that was
    fine-tuned on the mean of the patches (``fc_norm``, no ``norm``) the mean goes through that norm
    as in its training; its class token was not trained, and ``pool: cls`` of the last layer is
    refused. Blocks behind the last of `layers` are not loaded, nor are decoders and heads.

    A frame's shorter side is resized to the side of the checkpoint's pictures (224) over `crop`,
    bicubic by Pillow, and the centre square is cut; mean and deviation are those that the
    checkpoint's own files name, else ImageNet's. Grids follow section 2.2.1 of the pipeline's
    paper, which says neither how many frames a grid has nor what is done with the rest: here the
    frames of a clip are put in order of time, row by row, into as many grids as they fill; where
    they do not fill the last one they are repeated, spread evenly over all cells, and the record
    says so: ``{"frames": given, "cells": filled}``. A cell is 224 / n pixels wide, a pixel more or
    less where that is no whole number; the picture is always 224, and nothing of it is cropped.

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377;
    fine-tuned on faces in Ge et al. 2024, "Early joint learning of emotion information makes
    multimodal model understand you better". Weights: ``timm/vit_base_patch16_224.mae`` and
    ``facebook/vit-mae-base`` (CC-BY-NC-4.0), ``mae_vit-base-p16`` of mmpretrain (Apache-2.0). The
    network is timm's ``VisionTransformer`` (Apache-2.0).

    Deviations: layer norms have eps 1e-6 as in the original and in its training, also where a
    config.json says 1e-12; all patches are read, in their order (``ViTMAEModel`` of transformers
    shuffles them); always bicubic.

    Raises ``CheckpointError`` for weights that are missing, cut or of another network,
    ``RegistryError`` for options that do not fit them, ``InputError`` for a clip without frames.
    """

    name = "vit_mae"
    licence = "CC-BY-NC-4.0"
    citation = """
        @inproceedings{he2022masked,
          author = {He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r,
            Piotr and Girshick, Ross},
          title = {Masked Autoencoders Are Scalable Vision Learners},
          booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
            Recognition},
          pages = {16000--16009},
          year = {2022},
          doi = {10.1109/CVPR52688.2022.01553},
        }
    """
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video()}
    tunings: ClassVar[Mapping[str, type[Tuning]]] = {"tune": VitTuning}

    checkpoint: str = PUBLISHED
    """A hub id, a folder, or a file: of timm or facebook, transformers (ViTMAE) or mmpretrain."""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    """Which hidden states to combine: 0 is the embedding, -1 the last layer behind its norm."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    pool: Literal["cls", "mean"] = "mean"
    """A picture's row: its class token, or the mean of its patches, which fits all checkpoints."""
    crop: float = Field(default=1.0, ge=0.5, le=1.0)
    """The share of the shorter side that is kept: 1 all of a square face crop, 0.9 as timm
    evaluates (248 to 224 pixels), 0.875 as mmpretrain does (256 to 224)."""
    grid: int = Field(default=1, ge=1, le=14)
    """Put `grid` x `grid` frames into each picture; 1 for one frame a picture."""
    pictures: int | None = Field(default=None, ge=1)
    """The most pictures a clip, of frames spread evenly over it; null for all its frames."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads, for a network of unusual size whose checkpoint does not say: its weights
    alone cannot."""

    @model_validator(mode="after")
    def _grids_are_not_cropped(self) -> VitMAE:
        if self.grid > 1 and self.crop != 1.0:
            raise ValueError("crop goes with grid: 1 only, as it would cut the outer cells")
        return self

    @property
    def dim(self) -> int | None:
        """768 for the published ViT-Base; else the checkpoint decides."""
        return 768 if self.checkpoint == PUBLISHED else None

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read: all, or what `pictures` and `grid` come to."""
        return {"frames": Video(count=self.pictures and self.pictures * self.grid**2)}

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_vit_mae._model import VitMAEModel

        return VitMAEModel(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [VitMAE]
