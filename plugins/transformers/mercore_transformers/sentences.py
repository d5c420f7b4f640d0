"""Sentence embeddings, from checkpoints in the layout of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field

from mercore.components import Encode
from mercore.media import Spec, Words
from mercore_transformers.options import WOLF, Pretrained

REIMERS: Final = """\
@inproceedings{reimers2019sentence,
  title = {Sentence-{BERT}: Sentence Embeddings using {S}iamese {BERT}-Networks},
  author = {Reimers, Nils and Gurevych, Iryna},
  booktitle = {Proceedings of the 2019 Conference on Empirical Methods in Natural Language
    Processing and the 9th International Joint Conference on Natural Language Processing
    (EMNLP-IJCNLP)},
  year = {2019},
  pages = {3982--3992},
  doi = {10.18653/v1/D19-1410}
}"""


class SentenceTransformers(Pretrained):
    """The embedding of a text by a model of sentence-transformers: ``(1, width)``.

    All that such a folder lists is done here: the network, pooling (class token, mean, maximum,
    mean by the root of the length, weighted mean, last token, or several side by side), dense
    layers, normalisation to length 1. A module of another kind is refused, and no code of the
    folder is run. Text without a word gives a row of zeros. Text longer than the model reads is
    cut, and the record says so, in tokens of the text: ``{"tokens": counted, "read": encoded}``.

    Source: Reimers and Gurevych 2019, "Sentence-BERT: Sentence embeddings using Siamese
    BERT-networks". The network and the tokenizer are those of transformers.

    Raises ``CheckpointError`` for a folder that is none of sentence-transformers, has modules of
    another kind, or weights that do not fit; ``RegistryError`` for a prompt that the folder does
    not have; ``InputError`` for text that is no valid Unicode.
    """

    name = "sentence_transformers"
    example: ClassVar = {"checkpoint": "intfloat/multilingual-e5-large"}
    citation = f"{REIMERS}\n\n{WOLF}"
    inputs: ClassVar[Mapping[str, Spec]] = {"text": Words()}

    prompt: str | None = Field(default=None, min_length=1)
    """The name of one of the folder's prompts, such as ``query``, to put before each text; null for
    its default prompt, where it has one."""
    max_tokens: int | None = Field(default=None, ge=3)
    """The most tokens to read, those that the tokenizer adds included; null for as many as the
    checkpoint says."""

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_transformers._sentences import SentenceEncoder

        return SentenceEncoder(self, device, dtype)
