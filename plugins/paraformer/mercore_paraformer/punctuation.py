"""Punctuation: what a recogniser leaves out, put back into its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, JsonValue

from mercore import checkpoints
from mercore.components import Preprocessor, Transform
from mercore.media import Words


class CTTransformer(Preprocessor):
    """The text with punctuation: the same characters in the same order, and marks between them.

    The marks are ``，。？、``, and ``,.?`` behind a word in Latin letters; a text ends with a full
    stop or a question mark. Nothing else is changed, so leaving the marks out gives the text back.
    A text that has a mark already, one of ``，。？！、；：…`` or ``,.?!;``, passes through as it
    is; points and commas between two digits do not count. The record is ``{"punctuated": marks
    added, "passed_through": whether the text had marks already}``.

    A text is read in windows, as by the published code: `window` words more each time, from the
    last end of a sentence found so far. Where more than 200 words have no end, they are cut at
    their last comma, which becomes a full stop. No text depends on its batch.

    Source: Chen et al. 2020, "Controllable time-delay transformer for real-time punctuation
    prediction and disfluency detection", arXiv:2003.01309. Weights on ModelScope:
    ``iic/punc_ct-transformer_cn-en-common-vocab471067-large`` (12 blocks, 516 wide; reads words as
    jieba cuts them) and ``iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch`` (4 blocks,
    256 wide; reads characters); see their cards for the licences.

    Deviations from the published code (FunASR): it makes the first letter of a sentence large and
    the others of that word small, drops and adds blanks, and writes ``<unk>`` where that class
    wins; here all characters are kept and that class counts as no mark. Where it would carry on
    more than 400 words without a comma, for ever longer windows, here all but the last 200 are
    done. It punctuates again what has punctuation.

    Raises ``CheckpointError`` for weights that are missing, cut or of another network.
    """

    name = "ct_transformer"
    licence = "Apache-2.0 or the FunASR model licence; see the model card"
    citation = """
        @inproceedings{chen2020controllable,
          author = {Chen, Qian and Chen, Mengzhe and Li, Bo and Wang, Wen},
          title = {Controllable Time-Delay Transformer for Real-Time Punctuation Prediction and
            Disfluency Detection},
          booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing
            (ICASSP)},
          pages = {8069--8073},
          year = {2020},
        }
    """
    inputs: ClassVar = {"text": Words()}
    output = Words()
    # A batch is split by the number of its words; this says how many texts are read ahead.
    budget: ClassVar = 4.0

    checkpoint: str = Field(
        default="modelscope:iic/punc_ct-transformer_cn-en-common-vocab471067-large",
        description="A folder in the published layout, or a hub id.",
    )
    window: int = Field(
        default=20,
        ge=2,
        description="How many words to read at a time. 20 is what the published code does; more "
        "is faster for long texts, and gives marks that may differ.",
    )

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that punctuates; raises ``CheckpointError`` for other weights."""
        from mercore_paraformer._punctuation import Punctuator

        return Punctuator(self, device, dtype)
