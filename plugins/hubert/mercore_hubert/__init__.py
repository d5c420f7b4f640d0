"""Speech, as a HuBERT hears it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints, hookimpl
from mercore.backends import OnnxOptions
from mercore.components import Encode, Encoder
from mercore.media import Audio
from mercore.tuning import Classifying, Policy, Trainee, Tuning

__version__ = "0.1.0"

BESIDE: Final = ("config.json", "preprocessor_config.json")
PRESETS: Final[Mapping[str, Mapping[str, object]]] = {
    "paper": {"reduce": "mean", "chunk": None, "pad_chunks": False},
    "mertools": {"reduce": "sum", "chunk": 10.0, "pad_chunks": True},
}
"""The options that differ between the paper's features and those of MERBench."""


class HubertTuning(Policy, Classifying):
    """Fine-tuning on labels: a linear head on the mean over the frames, which is what is kept.

    A frame is what the encoder's own `layers` and `reduce` make it, so that the head learns on the
    feature that `mer extract` then gives. An evaluation hears the whole clip. The defaults are
    those of Wang et al. 2021, arXiv:2111.02735, as in their recipe for SpeechBrain (IEMOCAP,
    ``train_with_wav2vec2.yaml``): Adam, 1e-4 for the head and a tenth of it for the rest, batches
    of 4, 30 epochs, convolutions that stay as they are. It lowers the rate when the score stops
    rising, which is a cosine here; its head reads the last layer alone. No block is left out at
    random (LayerDrop), as its hidden state would be missing.

    Weights are trained in float32. The whole network is saved, in the layout of transformers. What
    LoRA added is part of it; ``checkpoint/adapter`` has it alone, in the layout of peft, for
    transformers' ``HubertModel`` with the weights that the training began from.
    """

    epochs: float = Field(default=30, gt=0)
    batch: int = Field(default=4, ge=1)
    at_once: int = Field(default=4, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    seconds: float | None = Field(default=10.0, ge=0.1)
    """Train on a part of a clip that is longer than this, drawn anew in each epoch; null for the
    whole."""
    convolutions: bool = False
    """Whether ``train: all`` has the convolutions over the audio too, which fine-tuning leaves as
    they are since wav2vec 2.0 (Baevski et al. 2020, section 4.2)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of attention, in the feed-forward layers and behind each, as in pre-training."""
    mask: float = Field(default=0.0, ge=0, lt=1)
    """The share of the frames that are masked in training, at most, in spans of 10, as
    pre-training does (SpecAugment, Park et al. 2019); transformers' default is 0.05."""

    @model_validator(mode="after")
    def _convolutions_need_all(self) -> HubertTuning:
        if self.convolutions and self.train != "all":
            raise ValueError(f"convolutions: true needs train: all, found train: {self.train}")
        return self

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network with its head."""
        from mercore_hubert._tuning import HubertTrainee

        assert isinstance(encoder, Hubert)
        return HubertTrainee(encoder, self, classes, weights=weights)


class Hubert(OnnxOptions, Encoder):
    """Hidden states of (Chinese) HuBERT, 50 a second: ``(frames, 1024)`` for large, 768 for base.

    A row is the mean (or the sum) of some `layers`, by default the last four. 0 is what the first
    block reads, -1 the last block; in networks that norm before each block (large, xlarge) the
    last one is behind the final norm, the others are as the blocks leave them. Blocks behind the
    last of `layers` are not loaded. n samples of audio give ``(n - 400) // 320 + 1`` frames, fewer
    where `pad_chunks` is set: each piece of 10 s gives 499. The store keeps the mean over the
    frames, and the frames too with ``frames: true``; with ``pool: mean`` there is only the mean.

    Audio is brought to mean 0 and variance 1 over the utterance where the checkpoint's
    ``preprocessor_config.json`` says ``do_normalize``; without that file, and of fairseq's files,
    where the network was trained so: where its convolutions have layer norms (large, xlarge) and
    not where the first one has a group norm (base). No sample depends on its batch: on a GPU
    samples are padded and masked where the convolutions have layer norms; with a group norm, whose
    statistics are taken over time, only samples of equal length go together.

    Source: Hsu et al. 2021, "HuBERT: self-supervised speech representation learning by masked
    prediction of hidden units", arXiv:2106.07447. Weights: ``TencentGameMate/chinese-hubert-large``
    and ``-base`` (trained on WenetSpeech), ``facebook/hubert-base-ls960``,
    ``facebook/hubert-large-ll60k``, ``facebook/hubert-xlarge-ll60k``; see their cards for the
    licences. The network is transformers' ``HubertModel`` (Apache-2.0).

    Deviations: the hidden states are those that transformers 4 returned (version 5 leaves the last
    of large ones without its norm). The weight norm of the positional convolution is multiplied
    out, in float32. On a CPU the convolutions are computed as matrix products, the same but for
    rounding. The presets differ as the publications do: the paper averages the layers of the
    whole utterance, MERBench (MERTools) sums them, and pads audio over 10 s with zeros to a
    multiple of 10 s after it was normalised, so that the frames of padding count.

    Raises ``CheckpointError`` for weights that are missing, cut or of another network,
    ``RegistryError`` for options that do not fit them, ``InputError`` for audio below 400 samples
    (25 ms), which gives no frame.
    """

    name = "hubert"
    licence = "see the model card"
    citation = """
        @article{hsu2021hubert,
          author = {Hsu, Wei-Ning and Bolte, Benjamin and Tsai, Yao-Hung Hubert and Lakhotia, Kushal
            and Salakhutdinov, Ruslan and Mohamed, Abdelrahman},
          title = {{HuBERT}: Self-Supervised Speech Representation Learning by Masked Prediction of
            Hidden Units},
          journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
          volume = {29},
          pages = {3451--3460},
          year = {2021},
          doi = {10.1109/TASLP.2021.3122291},
        }
    """
    inputs: ClassVar = {"audio": Audio(rate=16_000)}
    tunings: ClassVar[Mapping[str, type[Tuning]]] = {"tune": HubertTuning}

    checkpoint: str = "TencentGameMate/chinese-hubert-large"
    """A hub id, a folder in the layout of transformers, or a file: of transformers (beside its
    config.json) or of fairseq."""
    preset: Literal["paper", "mertools"] = "paper"
    """What `reduce`, `chunk` and `pad_chunks` are unless they are given: ``mertools`` is
    ``reduce: sum, chunk: 10, pad_chunks: true``, the features of MERBench."""
    layers: tuple[int, ...] = Field(default=(-4, -3, -2, -1), min_length=1)
    """Which hidden states to combine: 0 is what the first block reads, -1 the last layer."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    pool: Literal["frames", "mean"] = "frames"
    """What to return: a row a frame, or their mean as one row."""
    chunk: float | None = Field(default=None, ge=1)
    """Encode audio longer than this many seconds in pieces that do not see each other, for memory:
    that of attention grows with the square of the length. Null for the whole."""
    pad_chunks: bool = False
    """Pad the last piece with zeros to a whole one and keep the frames of the padding, as MERBench
    does. Else the pieces overlap by 5 ms, so that no frame is lost between them."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_preset(cls, given: Any) -> Any:
        preset = str(given.get("preset", "paper")) if isinstance(given, dict) else ""
        return {**PRESETS.get(preset, {}), **given} if preset else given

    @model_validator(mode="after")
    def _padding_needs_chunks(self) -> Hubert:
        if self.pad_chunks and self.chunk is None:
            raise ValueError("pad_chunks: true needs chunk, the length of a piece in seconds")
        return self

    @property
    def frame_rate(self) -> float | None:
        """50: a frame every 320 samples; None for their mean."""
        return 50.0 if self.pool == "frames" else None

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie; a preset is what it stands for."""
        given = Path(os.path.expanduser(self.checkpoint))
        # What lies beside a file says how it is read.
        beside = [given.with_name(name) for name in BESIDE] if given.is_file() else []
        files: list[str | Path] = [self.checkpoint, *(path for path in beside if path.is_file())]
        return {"checkpoint": " ".join(map(checkpoints.identity, files)), "preset": None}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_hubert._model import HubertEncoder

        return HubertEncoder(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [Hubert]
