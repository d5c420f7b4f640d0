"""The options of every decoder of Paraformer's scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, JsonValue, model_validator

from mercore import checkpoints
from mercore.errors import CheckpointError

WORDS = "words.txt"
"""The symbols of a compiled graph, in the folder of its file."""


class Decoding(BaseModel):
    """Adds the options of the decoder to a recogniser; name it before ``Preprocessor``.

    The recogniser adds `lm_identity` to its own ``identity``.
    """

    decode: Literal["greedy", "beam", "wfst"] = Field(
        default="greedy",
        description="How tokens are chosen. `greedy`: the likeliest at each position. `beam`: the "
        "likeliest sentences together with the language model `lm`. `wfst`: the same in a graph "
        "compiled from `lm`; needs `pip install 'mercore-paraformer[wfst]'`.",
    )
    lm: str | None = Field(
        default=None,
        min_length=1,
        description="The file of an n-gram language model: ARPA, plain or gzip, or for `beam` "
        "KenLM's binary format, or for `wfst` a compiled `TLG.fst`, or another .fst with its "
        "words.txt beside it.",
    )
    lm_weight: float = Field(
        default=0.3,
        gt=0.0,
        description="How much the language model counts: what its natural log-probabilities are "
        "multiplied with.",
    )
    length_bonus: float = Field(
        default=0.0,
        description="Added to the score for each token, against sentences that lose some.",
    )
    beam: int = Field(
        default=10,
        ge=1,
        description="How many hypotheses to keep at each position, and how many of its likeliest "
        "tokens to try there. `wfst` tries all and keeps up to 100 states of the graph for each.",
    )
    nbest: int = Field(
        default=1,
        ge=1,
        description="How many readings the record lists; above 1 with `decode: beam` only.",
    )

    @model_validator(mode="after")
    def _decodable(self) -> Decoding:
        if self.decode == "greedy" and (self.lm or self.length_bonus):
            option = "lm" if self.lm else "length_bonus"
            raise ValueError(f"{option} does not count for decode: greedy; use decode: beam")
        if self.decode == "wfst" and not self.lm:
            raise ValueError("decode: wfst needs a language model; name its file by lm")
        if self.nbest > 1 and self.decode != "beam":
            raise ValueError(f"nbest: {self.nbest} needs decode: beam; {self.decode} finds one")
        if self.nbest > self.beam:
            raise ValueError(f"nbest: {self.nbest} is more than beam: {self.beam}; raise beam")
        return self

    @model_validator(mode="after")
    def _fitting_lm(self) -> Decoding:
        if self.decode == "beam" and self.lm and self.lm.endswith(".fst"):
            raise ValueError(f"lm: {self.lm!r} is a compiled graph, for decode: wfst")
        return self

    def lm_identity(self) -> dict[str, JsonValue]:
        """Return what identifies the language model, wherever it lies; empty without one.

        By `mercore.checkpoints.identity`, with the words.txt of a compiled graph. Raises
        CheckpointError for a file that is not there.
        """
        if self.lm is None:
            return {}
        if not Path(os.path.expanduser(self.lm)).is_file():
            raise CheckpointError(
                f"lm: there is no file {self.lm!r}; `mer lm build` makes a language model"
            )
        found = checkpoints.identity(Path(self.lm))
        words = Path(os.path.expanduser(self.lm)).with_name(WORDS)
        if self.lm.endswith(".fst") and words.exists():
            found += f" {checkpoints.identity(words)}"
        return {"lm": found}
