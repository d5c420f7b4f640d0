"""How media become what a graph reads, as options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Three = tuple[float, float, float]
Above = Annotated[float, Field(gt=0)]


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AudioRecipe(_Recipe):
    """A waveform, ``(samples,)``, ``(batch, samples)`` or ``(batch, 1, samples)``."""

    rate: int = Field(gt=0, description="Samples a second (Hz) that the graph was trained on.")
    input: str | None = Field(
        default=None, description="The input for the waveform; null where no other is left."
    )
    normalise: Literal["none", "zscore"] = Field(
        default="none", description="`zscore`: mean 0 and variance 1 over the clip."
    )
    lengths: str | None = Field(
        default=None, description="An input for how many samples there are, `(batch,)`, if any."
    )
    mask: str | None = Field(
        default=None, description="An input for ones, one a sample, `(batch, samples)`, if any."
    )
    frame_rate: float | None = Field(
        default=None, gt=0, description="Rows a second (Hz) of the output, where they are known."
    )


class FramesRecipe(_Recipe):
    """Square pictures, four axes."""

    size: int = Field(gt=0, description="The side of the pictures in pixels.")
    input: str | None = Field(
        default=None, description="The input for the pictures; null for the only one."
    )
    fit: Literal["crop", "stretch"] = Field(
        default="crop",
        description="How a frame becomes a square: its centre, or all of it, stretched.",
    )
    shorter: int | None = Field(
        default=None,
        gt=0,
        description="With `fit: crop`: what the shorter side is resized to before; null: `size`.",
    )
    scale: float = Field(
        default=255.0, gt=0, description="What pixels are divided by before `mean` and `std`."
    )
    mean: Three = Field(default=(0.0, 0.0, 0.0), description="Subtracted, for red, green, blue.")
    std: tuple[Above, Above, Above] = Field(
        default=(1.0, 1.0, 1.0), description="Divided by, for red, green, blue."
    )
    layout: Literal["nchw", "nhwc"] = Field(
        default="nchw", description="`nchw`: channels before rows and columns; `nhwc`: behind."
    )
    colour: Literal["rgb", "bgr"] = Field(
        default="rgb", description="Which channel is first; `mean` and `std` are turned with it."
    )
    pictures: int | None = Field(
        default=None, ge=1, description="The most frames a clip, spread evenly; null for all."
    )


class TextRecipe(_Recipe):
    """Tokens, ``(batch, tokens)``, with their mask and types where the graph has such inputs."""

    tokenizer: str = Field(
        default="tokenizer.json",
        description="A file of the library tokenizers, below the checkpoint or beside the file.",
    )
    ids: str = Field(default="input_ids", description="The input for the tokens.")
    mask: str = Field(default="attention_mask", description="The input for ones, if there is one.")
    types: str = Field(default="token_type_ids", description="The input for segments, if any.")
    most: int = Field(
        default=512, ge=1, description="The most tokens, with special ones; the rest is cut off."
    )
    prefix: str = Field(default="", description="Put in front, such as `query: ` for E5.")
