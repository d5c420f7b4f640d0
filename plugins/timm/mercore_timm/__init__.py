"""Pictures, as any image model of timm sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints, hookimpl
from mercore.components import Encode, Encoder
from mercore.media import Spec, Video

__version__ = "0.1.0"

CONFIG: Final = "config.json"


class TimmImage(Encoder):
    """What an image model of timm makes of each frame: ``(frames, dim)``.

    A row is the model's own pooled vector in front of its classifier, which is not built; or the
    mean of its last tokens (cells of its last map), or each of them. With `layers` it is the means
    of the maps that ``forward_intermediates`` gives of these blocks or stages, side by side. The
    width is the model's; with `layers` the sum of those of the layers.

    Frames are prepared by timm's own transform for evaluation, with the size, mean, deviation,
    interpolation and crop of the checkpoint's ``config.json``, or of timm's registry where a file
    has none; `size`, `crop` and `crop_pct` replace them. Of `model` without a `checkpoint` the
    weights are those of ``timm/<model>`` on Hugging Face, fetched and pinned by mercore; timm
    itself never downloads any.

    Source: Wightman 2019, "PyTorch Image Models" (Apache-2.0), with the papers that the card of a
    checkpoint names. Licences differ between checkpoints: see their cards.

    Deviations: none on the CPU but for rounding: pictures are normalised as ``(x - 255 m) / 255 s``
    on the device. Of a training checkpoint the weights are read, not their moving average.

    Raises ``CheckpointError`` for weights that are missing, cut or of another model,
    ``RegistryError`` for a model or layers that do not exist, ``InputError`` for a clip without
    frames.
    """

    name = "timm_image"
    example: ClassVar = {"model": "vit_small_patch14_dinov2.lvd142m"}
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video()}
    licence = "that of the checkpoint, see its card; timm itself is Apache-2.0"
    citation = """\
@misc{wightman2019timm,
  author = {Wightman, Ross},
  title = {{PyTorch} Image Models},
  year = {2019},
  publisher = {GitHub},
  doi = {10.5281/zenodo.4414861},
  howpublished = {\\url{https://github.com/huggingface/pytorch-image-models}},
}"""

    model: str | None = Field(
        default=None,
        description="A model of timm, such as `vit_small_patch14_dinov2.lvd142m`: its name, and "
        "behind the dot which training. Null: what the checkpoint's config.json says.",
    )
    checkpoint: str | None = Field(
        default=None,
        description="A folder or the hub id of a repository with weights and config.json, or a "
        "file (.safetensors, .bin, .pth, .pt). Null: `timm/<model>` on Hugging Face.",
    )
    pool: Literal["model", "mean", "tokens"] = Field(
        default="model",
        description="What a frame becomes: the model's own pooled vector, the mean of its tokens "
        "or cells (without class tokens), or a row for each of them (with class tokens).",
    )
    layers: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="With `pool: mean`: the blocks or stages to take instead of the end, as timm "
        "counts them from 0; negative numbers count from the last. Their means are joined.",
    )
    size: int | None = Field(
        default=None,
        ge=1,
        description="The side of the pictures in pixels, where not that of the checkpoint; "
        "position embeddings are interpolated to it by timm.",
    )
    crop: Literal["center", "squash", "border"] | None = Field(
        default=None,
        description="How a frame becomes a square, where not as the checkpoint says: cut from the "
        "centre, squashed, or with a border.",
    )
    crop_pct: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The share of the resized frame to keep, where not as the checkpoint says.",
    )
    pictures: int | None = Field(
        default=None,
        ge=1,
        description="The most frames a clip, spread evenly over it; null for all its frames.",
    )

    @model_validator(mode="after")
    def _names_a_model(self) -> TimmImage:
        if self.checkpoint is None and self.model is None:
            raise ValueError("give model, checkpoint, or both")
        if self.checkpoint is None and "." not in str(self.model):
            raise ValueError(
                f"model {self.model!r} has no name of a training behind a dot, such as "
                "'resnet50.a1_in1k', so that its weights are not known; add it, or give checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _layers_are_averaged(self) -> TimmImage:
        if self.layers is not None and self.pool != "mean":
            raise ValueError("layers needs pool: mean")
        return self

    @property
    def weights(self) -> str:
        """Where the weights are: a path or a hub id."""
        return self.checkpoint or f"timm/{self.model}"

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read: all, or as many as `pictures` says."""
        return {"frames": Video(count=self.pictures)}

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        given = Path(os.path.expanduser(self.weights))
        # What lies beside a file says how it is built, unless `model` does.
        beside = given.with_name(CONFIG)
        told = self.model is None and given.is_file() and beside.is_file()
        files: list[str | Path] = [self.weights, *([beside] if told else [])]
        return {"checkpoint": " ".join(map(checkpoints.identity, files))}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_timm._model import TimmModel

        return TimmModel(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [TimmImage]
