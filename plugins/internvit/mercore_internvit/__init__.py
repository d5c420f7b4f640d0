"""Pictures: InternViT-6B and 300M, with the CLIP projector of InternVL-14B where it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from mercore import checkpoints
from mercore.components import Encode, Encoder
from mercore.errors import RunError
from mercore.hookspecs import hookimpl
from mercore.media import Spec, Video
from mercore.tuning import Classifying, Policy, Trainee, Tuning, trains


class InternViTTuning(Policy, Classifying):
    """Fine-tuning on labels: a linear head on the rows that the encoder gives of frames.

    A row is what the encoder's own `pool`, `layers` and `reduce` make it, so that the head learns
    on the feature that `mer extract` then gives. An example is one of `pictures` frames of a clip,
    drawn anew in each epoch; an evaluation takes the mean over all of them. No picture is changed
    at random. The defaults are those of sections 2.2.1 and 3.2 of the pipeline's paper: the CLIP
    projector alone, which is best in its table 2, SGD with momentum 0.9 (its "attenuation
    parameter", as it is read here), one learning rate of 2e-5, batch 512, 50 epochs; its 224 pixels
    are those of the encoder's default checkpoint. Where it is silent (weight decay, warm-up in 1 of
    10 epochs, cosine, clipping at 5) they are those by which InternVL trains such a pooling on a
    frozen InternViT-6B (OpenGVLab/InternVL, ``classification/configs/attn_pooling_probing``). Its
    rate is 0.1 for a batch of 512: with few samples 2e-5 moves little in 50 epochs.

    What is in front of all that is trained runs once: the store keeps what it gives of each of the
    `pictures`, all trainings read it from there, and these weights are on no device while they
    train. Of InternViT-6B at 224 pixels a frame takes 257 tokens x 3,200 numbers, 1.6 MB where the
    feature has ``dtype: bfloat16`` or ``float16`` and 3.3 MB in float32, or one row (768 numbers)
    for ``train: head``: 33 GB for 5,000 clips of 4 frames in half precision. `mer prune` deletes
    it.

    Weights are trained in float32; norms and the projector are float32 always. What is saved is the
    tower, with the projector if the checkpoint has one, in its published layout and types; language
    models beside it are left out. Position embeddings that are resized (`image_size`) are frozen.
    """

    train: Annotated[str, AfterValidator(trains("projector"))] = "projector"
    """What is trained beside the head: ``projector``, the CLIP projector, which needs `pool:
    clip_proj`; ``all``, the projector too where `pool` takes it; ``last-4``, the last four blocks;
    ``25-47``, these blocks, counted from 0; ``lora``, low-rank matrices that are added to those of
    the blocks and saved as part of them; ``head``, nothing else."""
    epochs: float = Field(default=50, gt=0)
    batch: int = Field(default=512, ge=1)
    at_once: int = Field(default=32, ge=1)
    lr: float = Field(default=2e-5, gt=0)
    pretrained_rate: float = Field(default=1.0, gt=0)
    """The learning rate of weights that were trained before, in terms of `lr`: that is the rate of
    what is new, the head and what LoRA adds. The paper has one for all."""
    optimizer: Literal["adamw", "sgd"] = "sgd"
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip: float | None = Field(default=5.0, gt=0)
    pictures: int = Field(default=4, ge=1)
    """The most frames of a clip that are looked at, spread evenly over it."""
    cached: bool = True
    """Run what is in front of all that is trained once, and keep what it gives in the store; if
    not, it runs in each epoch."""

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network with its head, or what is behind its trunk."""
        from mercore_internvit._tuning import InternViTTrainee

        return InternViTTrainee(self._fitting(encoder), self, classes, weights=weights)

    def trunk(self, encoder: Encoder) -> InternViTTrunk | None:
        """Return what gives the hidden state in front of all that is trained, or rows for a head.

        None for what trains from the first block on (``all``, ``lora``, ``0-25``).
        """
        from mercore_internvit._tuning import trunk_of

        own = self._fitting(encoder)
        return trunk_of(own, self) if self.cached else None

    def _fitting(self, encoder: Encoder) -> InternViT:
        assert isinstance(encoder, InternViT)
        if self.train == "projector" and encoder.pool != "clip_proj":
            raise RunError(
                f"train: projector: needs `pool: clip_proj`, found `pool: {encoder.pool}`; change "
                "that of the feature, or train something else"
            )
        return encoder


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
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video()}
    tunings: ClassVar[Mapping[str, type[Tuning]]] = {"tune": InternViTTuning}

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


class InternViTTrunk(Encoder):
    """What a training reads of a few frames, ``(frames, width)``; not for a registry.

    With a `state` a row has all tokens of that hidden state, one after another; else it is that of
    the encoder.
    """

    name = "internvit_trunk"
    inputs = InternViT.inputs
    budget = 0.1  # as rows are large, whatever the size of the pictures is

    of: InternViT
    """The encoder; with a `state` its only layer is that."""
    state: int = 0
    width: int
    """The numbers of a row."""
    pictures: int
    """The most frames, spread evenly over the clip."""

    @property
    def dim(self) -> int:
        """The width of a row."""
        return self.width

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read."""
        return {"frames": Video(count=self.pictures)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises as that of the encoder does."""
        from mercore_internvit._model import InternViTModel

        return InternViTModel(self.of, device, dtype, tokens=bool(self.state))


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoder of this plugin."""
    return [InternViT]
