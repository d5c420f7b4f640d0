"""Clips, by any video encoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mercore.components import Encode
from mercore.media import Spec, Video
from mercore_transformers.options import Layered

FRAMES = 16


class TransformersVideo(Layered):
    """What a video encoder that transformers has sees in a clip: ``(1, width)``, or a row a step.

    VideoMAE, ViViT, TimeSformer. As many frames as the network reads are taken, spread evenly over
    the clip; of a shorter one frames are repeated, and the record says so: ``{"frames": given,
    "read": seen}``. The checkpoint's own image processor resizes, crops and normalises them.

    Source: Wolf et al. 2020, "Transformers: State-of-the-art natural language processing"; the
    network is the library's own.

    Raises ``CheckpointError`` for weights that are missing, too many, or of a network that the
    library lacks or that is none of video; ``RegistryError`` for another number of frames than
    `frames` and for `layers` or `pool` that the network does not have; ``InputError`` for a clip
    without frames.
    """

    name = "transformers_video"
    example: ClassVar = {"checkpoint": "MCG-NJU/videomae-base"}
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video(count=FRAMES)}

    frames: int = Field(default=FRAMES, ge=1)
    """How many frames of a clip the checkpoint reads: 16 for VideoMAE, 32 for ViViT, 8 for
    TimeSformer. Another than the checkpoint says is an error that names the right one."""
    pool: Literal["mean", "steps", "cls"] = "mean"
    """What to return: the mean of all patches as one row, a row for each step of time (2 frames in
    VideoMAE and ViViT), or the class token as one row (ViViT, TimeSformer)."""

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read."""
        return {"frames": Video(count=self.frames)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_transformers._video import VideoEncoder

        return VideoEncoder(self, device, dtype)
