"""Text: hidden states of the language models Baichuan and Baichuan2, 7B and 13B."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue, field_validator

from mercore import checkpoints
from mercore.components import Encode, Encoder
from mercore.hookspecs import hookimpl
from mercore.media import Words
from mercore.tuning import Classifying, Policy, Train, Trainee, Tuning, Unlabelled

# What decides the numbers beside the weights; in a folder it is part of its identity already.
BESIDE: Final = ("config.json", "tokenizer.model", "generation_config.json")


class _Recipe(Policy):
    """What both trainings have from Baichuan2's own fine-tuning, and LoRA as the default.

    Its script ``fine-tune.py`` and README: 4 epochs, batches of 16, AdamW (.9, .98), 2e-5 for
    weights that were trained before, no schedule, weight decay 1e-4, activations computed again.
    """

    train: Train = "lora"
    epochs: float = Field(default=4, gt=0)
    batch: int = Field(default=16, ge=1)
    lr: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    recompute: bool = True


class BaichuanTuning(_Recipe, Classifying):
    """Fine-tuning on labels: a linear head on the mean of the rows, which is what is kept.

    A row is what the encoder's own `layers`, `reduce`, `pool`, `prompt` and `chat` make it, so that
    the head learns on the feature that `mer extract` then gives. The defaults are those of
    Baichuan2's own fine-tuning, with LoRA: 2e-4 for the head and what LoRA adds (Hu et al. 2021,
    for GPT-3), a tenth of it, Baichuan2's 2e-5, for other weights.

    What is trained is float32; what is not is kept in the type it is multiplied in, so that LoRA
    takes 26 GB for the weights of 13B and ``all`` 52 GB, to which come gradients and the
    optimiser's state: see ``mer tune --plan``. The layout that was published is saved, in the types
    of its weights, with what LoRA added made part of them.
    """

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network with its head."""
        from mercore_baichuan._tuning import ClassifyingTrainee

        assert isinstance(encoder, Baichuan)
        return ClassifyingTrainee(encoder, self, classes, weights=weights)


class BaichuanPretraining(_Recipe, Unlabelled):
    """Going on with pre-training: the next token of the texts, without labels.

    Texts are read as they are, without `prompt` and `chat`, and end with the model's end token. The
    loss is the mean over the tokens of a step, on all devices; that of an evaluation the mean over
    what is read at once. Defaults, types and what is saved are those of ``mer tune baichuan``;
    Baichuan2's auxiliary loss on large logits is left out.
    """

    tokens: int = Field(default=512, ge=2)
    """The most tokens of a text; of a longer one a part is read, drawn anew in each epoch."""
    norm_head: bool | None = None
    """Whether the rows of the output layer are normed, as in Baichuan2; null: if it has that
    vocabulary."""

    @field_validator("train")
    @classmethod
    def _features_are_trained(cls, train: str) -> str:
        if train == "head":
            raise ValueError("expected all, lora, last-N or A-B: features are made without a head")
        return train

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the language model."""
        from mercore_baichuan._tuning import LanguageTrainee

        assert isinstance(encoder, Baichuan)
        return LanguageTrainee(encoder, self, weights=weights)


class Baichuan(Encoder):
    """One row a word piece: ``(tokens, 5120)`` for the 13B models, ``(tokens, 4096)`` for 7B.

    The rows are the mean of the last four hidden states, the very last one after the final norm, as
    transformers counts them. A row depends on its own word piece and those before it. Rows are
    returned for the text alone; those of a prompt or of chat tokens are left out. Empty or blank
    text gives one row of zeros. Text over the context of the model (4,096 word pieces, less those
    of the prompt) is cut, and the record says so: ``{"tokens": counted, "read": encoded}``.

    Source: Yang et al. 2023, "Baichuan 2: open large-scale language models" (arXiv 2309.10305), run
    by transformers' own ``LlamaModel``. Checkpoints, from Hugging Face or ModelScope:
    baichuan-inc/Baichuan-7B, Baichuan-13B-Base, Baichuan-13B-Chat, Baichuan2-7B-Base,
    Baichuan2-7B-Chat, Baichuan2-13B-Base, Baichuan2-13B-Chat. Their code is Apache-2.0; the weights
    are under the Baichuan community licences, by their cards (not verified here).

    The default is the model that Ge et al. (2024) tuned further; their weights are not published.
    MERBench's features are those of Baichuan-13B-Base with ``reduce: sum``.

    Deviations from the published code: attention is torch's scaled dot product. The ALiBi bias of
    13B is made of distances, not of positions, which is the same after the softmax and loses less
    in half precision. Prompt and text are cut into word pieces apart, so that none spans both. The
    output layer (with Baichuan2's NormHead) is not loaded.

    Raises CheckpointError for weights that are missing, too many or of another shape or model, and
    for a missing or foreign tokenizer; RegistryError for options that do not fit the checkpoint;
    InputError for text that is no valid Unicode, and for values that are not finite.
    """

    name = "baichuan"
    licence = "Baichuan community licence"
    citation = """
        @article{baichuan2023baichuan2,
          author = {{Baichuan}},
          title = {Baichuan 2: Open Large-scale Language Models},
          journal = {arXiv preprint arXiv:2309.10305},
          year = {2023},
        }
    """
    inputs: ClassVar = {"text": Words()}
    tunings: ClassVar[Mapping[str, type[Tuning]]] = {
        "tune": BaichuanTuning,
        "pretrain": BaichuanPretraining,
    }

    checkpoint: str = "baichuan-inc/Baichuan-13B-Chat"
    """A folder, a file of weights with ``config.json`` and ``tokenizer.model`` beside it, or a hub
    id: ``owner/name[@revision]``, also after ``modelscope:``."""
    layers: tuple[int, ...] = Field(default=(-4, -3, -2, -1), min_length=1)
    """Which hidden states to combine: 0 is the embedding, -1 the last layer. No layer behind the
    last one named is loaded."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    pool: Literal["tokens", "mean", "last"] = "tokens"
    """What to return: a row a word piece, their mean as one row, or the last row that the model
    computes, which has seen all the text (with `chat` that of the assistant token, from which an
    answer would start)."""
    prompt: str | None = Field(default=None, min_length=1)
    """An instruction that the model reads before each text."""
    chat: bool = False
    """Put prompt and text between the user and the assistant token, as the Chat models were
    trained."""

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        known: dict[str, JsonValue] = {"checkpoint": checkpoints.identity(self.checkpoint)}
        file = Path(os.path.expanduser(self.checkpoint))
        if file.is_file():
            beside = (file.parent / name for name in BESIDE)
            known |= {path.name: checkpoints.identity(path) for path in beside if path.exists()}
        return known

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for unfit weights."""
        from mercore_baichuan._model import BaichuanModel

        return BaichuanModel(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoder of this plugin."""
    return [Baichuan]
