"""The options of every decoder of Paraformer's scores."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, JsonValue


class Decoding(BaseModel):
    """Adds the options of the decoder to a recogniser; name it before ``Preprocessor``."""

    decode: Literal["greedy"] = Field(
        default="greedy",
        description="How tokens are chosen: `greedy` takes the likeliest at each position.",
    )
    nbest: int = Field(default=1, ge=1, description="How many readings the record lists.")

    def lm_identity(self) -> dict[str, JsonValue]:
        """Return what identifies the language model; there is none."""
        return {}
