"""Text: hidden states of the language models Baichuan and Baichuan2, 7B and 13B."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue

from mercore import checkpoints
from mercore.components import Encode, Encoder
from mercore.hookspecs import hookimpl
from mercore.media import Words

# What decides the numbers beside the weights; in a folder it is part of its identity already.
_BESIDE: Final = ("config.json", "tokenizer.model", "generation_config.json")


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
            beside = (file.parent / name for name in _BESIDE)
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
