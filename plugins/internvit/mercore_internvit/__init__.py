"""Pictures: InternViT-6B and 300M, with the CLIP projector of InternVL-14B where it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from mercore import checkpoints
from mercore.components import Encode, Encoder
from mercore.hookspecs import hookimpl
from mercore.media import Video


class InternViT(Encoder):
    """One embedding a frame: ``(frames, 768)`` for the 6B model with its CLIP projector.

    With `pool: cls` or `mean` the rows are the tower's own: 3200 wide for InternViT-6B, 1024 for
    InternViT-300M. Frames should be face crops. Each is resized to the size of the checkpoint (224
    or 448 pixels), so crops of any size will do; rows come in the order of the frames. The CLIP
    embedding is not scaled to length 1.

    Source: Chen et al. 2024, "InternVL: scaling up vision foundation models and aligning for
    generic visual-linguistic tasks" (CVPR), run by transformers' own ``InternVLVisionModel``.
    Checkpoints (MIT licence, by their cards; not verified here), from Hugging Face or ModelScope:
    OpenGVLab/InternVL-14B-224px, the default; OpenGVLab/InternViT-6B-224px;
    InternViT-6B-448px-V1-0, -V1-2, -V1-5, -V2_5; InternViT-300M-448px and -V2_5; InternVL chat
    models; ``intern_vit_6b_224px.pth`` and ``internvl_c_13b_224px.pth`` of OpenGVLab/InternVL. Of
    checkpoints that hold language models too, only the picture tower is read.

    The default is what Ge et al. (2024) can have used: they cite InternVL-Chat-V1.5 for
    InternViT-6B, but tuned blocks 25-47 and CLIP_proj at 224 pixels and report rows 768 wide. Only
    InternVL-14B-224px has 48 blocks, that size and a projector. Their tuned weights are not
    published. For the tower of Chat-V1.5 give ``checkpoint: OpenGVLab/InternViT-6B-448px-V1-5``
    and ``pool: cls``.

    Deviations from the published code: attention is torch's scaled dot product, not flash-attn or
    apex. Position embeddings are resized in float32 when they are read, not at each call. float16
    is passed on as asked, but attention of the 6B model is known to leave its range; use bfloat16
    (or float32). Values that are not finite are an InputError, never a row.

    Raises CheckpointError for weights that are missing, too many or of another shape or model, and
    where `pool: clip_proj` finds no projector; RegistryError for options that do not fit the
    checkpoint; InputError for a clip without frames.
    """

    name = "internvit"
    licence = "MIT"
    citation = """
        @inproceedings{chen2024internvl,
          author = {Chen, Zhe and Wu, Jiannan and Wang, Wenhai and Su, Weijie and Chen, Guo and
            Xing, Sen and Zhong, Muyan and Zhang, Qinglong and Zhu, Xizhou and Lu, Lewei and Li, Bin
            and Luo, Ping and Lu, Tong and Qiao, Yu and Dai, Jifeng},
          title = {{InternVL}: Scaling up Vision Foundation Models and Aligning for Generic
            Visual-Linguistic Tasks},
          booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
            Recognition},
          pages = {24185--24198},
          year = {2024},
        }
    """
    inputs: ClassVar = {"frames": Video()}

    checkpoint: str = "OpenGVLab/InternVL-14B-224px"
    """A folder, a file (``.pth``), or a hub id: ``owner/name[@revision]``, also after
    ``modelscope:``."""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    """Which hidden states to combine: 0 is the embedding, -1 the last block. No block behind the
    last one named is loaded."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    pool: Literal["cls", "mean", "clip_proj"] = "clip_proj"
    """What stands for a frame: its class token, the mean of its patches, or the CLIP embedding,
    which needs a checkpoint with the projector and the last layer alone."""
    image_size: int | None = Field(default=None, gt=0)
    """Pixels a side that pictures are resized to, a multiple of the patch (14); the checkpoint's
    unless given."""
    resize: Literal["crop", "square"] = "crop"
    """``crop``: the shorter side to that size, then the centre of the picture; ``square``: both
    sides, which changes proportions but loses nothing, as InternVL-C does for retrieval."""

    @property
    def dim(self) -> int | None:
        """768 for the CLIP embedding; else the checkpoint decides."""
        return 768 if self.pool == "clip_proj" else None

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for unfit weights."""
        from mercore_internvit._model import InternViTModel

        return InternViTModel(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoder of this plugin."""
    return [InternViT]
