"""Pictures, by any image encoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mercore.components import Encode
from mercore.media import Spec, Video
from mercore_transformers.options import Layered


class TransformersImage(Layered):
    """What an image encoder that transformers has sees in each frame: ``(frames, width)``.

    ViT, DeiT, BEiT, DINOv2, CLIP and SigLIP (their image towers), Swin, ConvNeXt, ResNet, and any
    other whose ``AutoModel`` reads pictures. The checkpoint's own image processor resizes, crops
    and normalises them: the one that works with Pillow, as the published numbers came about, or
    torchvision's where the library has no other.

    Source: Wolf et al. 2020, "Transformers: State-of-the-art natural language processing"; the
    network is the library's own.

    Raises ``CheckpointError`` for weights that are missing, too many, or of a network that the
    library lacks or that is none of pictures; ``RegistryError`` for `layers` or `pool` that the
    network does not have; ``InputError`` for a clip without frames.
    """

    name = "transformers_image"
    example: ClassVar = {"checkpoint": "facebook/dinov2-large"}
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video()}

    pool: Literal["mean", "cls", "pooler"] = "mean"
    """A frame's row: the mean of its patches (of its feature map, in convolutional networks), its
    class token, or what the network's own pooler makes of it (CLIP: the normed class token;
    SigLIP: attention; ConvNeXt: the normed mean). What the network does not have is refused."""
    count: int | None = Field(default=None, ge=1)
    """The most frames of a clip, spread evenly over it; null for all."""
    rate: float | None = Field(default=None, gt=0)
    """Frames a second (Hz) to look at, instead of `count`; null for all."""

    @model_validator(mode="after")
    def _count_or_rate(self) -> TransformersImage:
        if self.count is not None and self.rate is not None:
            raise ValueError("count and rate do not go together: give one of them")
        return self

    @model_validator(mode="after")
    def _pooler_reads_the_last(self) -> TransformersImage:
        if self.pool == "pooler" and self.layers != (-1,):
            raise ValueError("pool: pooler reads the last layer alone: leave layers out")
        return self

    @property
    def frame_rate(self) -> float | None:
        """`rate`: as many rows a second."""
        return self.rate

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read."""
        return {"frames": Video(count=self.count, rate=self.rate)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_transformers._image import ImageEncoder

        return ImageEncoder(self, device, dtype)
