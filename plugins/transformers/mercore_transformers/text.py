"""Text, by any text encoder or decoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mercore.components import Encode
from mercore.media import Spec, Words
from mercore_transformers.options import Layered


class TransformersText(Layered):
    """Hidden states of a language model that transformers has: ``(tokens, width)``.

    BERT, RoBERTa, XLM-R, ELECTRA, DeBERTa, MPNet, ModernBERT, Llama, Mistral, Qwen2, Qwen3, Gemma,
    GPT-2, T5 (its encoder), CLIP (its text tower), and any other whose ``AutoModel`` reads tokens.
    Heads are not loaded. Text without a word gives one row of zeros. Text longer than the model
    reads is cut, and the record says so, in tokens of the text: ``{"tokens": counted, "read":
    encoded}``; with `chunk` it is read in pieces instead.

    No sample depends on its batch: texts are padded on the right and masked in the families where
    that was tried to be exact; in all others only texts of equal length run together.

    Source: Wolf et al. 2020, "Transformers: State-of-the-art natural language processing"; the
    network and the tokenizer are the library's own.

    Raises ``CheckpointError`` for weights that are missing, too many, or of a network that the
    library lacks or that is none of text, and for a tokenizer that is missing, foreign or slow;
    ``RegistryError`` for options that do not fit the checkpoint; ``InputError`` for text that is
    no valid Unicode, and for values that are not finite.
    """

    name = "transformers_text"
    example: ClassVar = {"checkpoint": "FacebookAI/xlm-roberta-large"}
    inputs: ClassVar[Mapping[str, Spec]] = {"text": Words()}

    pool: Literal["tokens", "mean", "first", "last"] = "tokens"
    """What to return: a row a token, their mean as one row, the first row ([CLS] in BERT and its
    kin), or the last, which in a decoder has seen all the text."""
    special_tokens: bool = True
    """Keep the rows of tokens that the tokenizer adds, such as [CLS] and [SEP]."""
    prefix: str = ""
    """What to put before each text, such as ``"query: "`` for E5; its rows count as the text's."""
    max_tokens: int | None = Field(default=None, ge=3)
    """The most tokens to read at once, those that the tokenizer adds included; null for as many as
    the checkpoint says."""
    chunk: bool = False
    """Read longer text in pieces of `max_tokens` that do not see each other, all rows in order."""

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_transformers._text import TextEncoder

        return TextEncoder(self, device, dtype)
