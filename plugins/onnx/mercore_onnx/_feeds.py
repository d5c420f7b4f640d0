"""Media made into what a graph reads: arrays by the name of the input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mercore.components import Inputs, Record
from mercore.errors import CheckpointError, InputError
from mercore.inputs import audio_of, frames_of, text_of
from mercore.nn import normalised, resized, stretched, zscore
from mercore.packages import needed
from mercore_onnx._graph import Array, Graph, Slot
from mercore_onnx._recipes import AudioRecipe, FramesRecipe, TextRecipe, Three


class Feed(Protocol):
    """Turns the input of a sample into the arrays of a run."""

    batched: bool
    """Whether the first axis of what goes in and comes out is a batch."""
    at_once: int | None
    """How many items of a batch to run together; None for any number."""

    def __call__(self, sample: Inputs) -> tuple[Mapping[str, Array], Record]:
        """Return arrays by input, and what to note; raises InputError for what it cannot take."""


class AudioFeed:
    """A waveform for a graph."""

    batched: bool
    at_once: int | None = None

    def __init__(self, recipe: AudioRecipe, graph: Graph) -> None:
        self._recipe = recipe
        beside = (recipe.lengths, recipe.mask)
        self._slot = graph.slot(recipe.input, beside)
        self.batched = len(self._slot.shape) > 1
        for name in filter(None, beside):
            graph.slot(name)
        graph.require([self._slot.name, *filter(None, beside)])
        if len(self._slot.shape) not in (1, 2, 3):
            raise _shaped(graph, self._slot, "(samples), (batch, samples) or (batch, 1, samples)")
        _one_of_any_length(graph, self._slot)

    def __call__(self, sample: Inputs) -> tuple[Mapping[str, Array], Record]:
        samples = audio_of(sample)
        if self._recipe.normalise == "zscore":
            samples = zscore(samples)
        axes = (1,) * (len(self._slot.shape) - 1)
        fed: dict[str, Array] = {self._slot.name: samples.reshape(*axes, -1)}
        if self._recipe.lengths:
            fed[self._recipe.lengths] = np.array([len(samples)])
        if self._recipe.mask:
            fed[self._recipe.mask] = np.ones((1, len(samples)))
        return fed, {}


class FramesFeed:
    """Pictures for a graph."""

    batched: bool = True
    at_once: int | None

    def __init__(self, recipe: FramesRecipe, graph: Graph) -> None:
        self._recipe = recipe
        self._slot = graph.slot(recipe.input)
        graph.require([self._slot.name])
        sides = (recipe.size, recipe.size)
        expected = (3, *sides) if recipe.layout == "nchw" else (*sides, 3)
        batch, *axes = self._slot.shape or (None,)
        fits = len(axes) == 3 and all(
            own in (None, given) for own, given in zip(axes, expected, strict=False)
        )
        if not fits:
            raise _shaped(graph, self._slot, f"(batch, {', '.join(map(str, expected))})")
        if batch not in (None, 1):
            raise _shaped(graph, self._slot, "a batch of any length, or of one")
        self.at_once = batch

    def __call__(self, sample: Inputs) -> tuple[Mapping[str, Array], Record]:
        frames, recipe = frames_of(sample), self._recipe
        if recipe.fit == "crop":
            pixels = resized(frames.pixels, recipe.size, shorter=recipe.shorter)
        else:
            pixels = stretched(frames.pixels, recipe.size)
        pictures = self._scaled(pixels)  # (pictures, 3, size, size)
        if recipe.colour == "bgr":
            pictures = pictures[:, ::-1]
        if recipe.layout == "nhwc":
            pictures = pictures.transpose(0, 2, 3, 1)
        return {self._slot.name: pictures}, {}

    def _scaled(self, pixels: Array) -> Array:
        if self._slot.kind == "tensor(uint8)":  # it does the rest itself
            return pixels.transpose(0, 3, 1, 2)
        of_255 = self._recipe.scale / 255
        mean, std = (_times(three, of_255) for three in (self._recipe.mean, self._recipe.std))
        pictures: Array = normalised(torch.from_numpy(pixels), torch.float32, mean, std).numpy()
        return pictures


class TextFeed:
    """Tokens for a graph."""

    batched: bool = True
    at_once: int | None = None

    def __init__(self, recipe: TextRecipe, graph: Graph, file: Path) -> None:
        self._recipe = recipe
        self._ids = graph.slot(recipe.ids)
        self._fed = [name for name in (recipe.mask, recipe.types) if name in graph.inputs]
        graph.require([self._ids.name, *self._fed])
        if len(self._ids.shape) != 2:
            raise _shaped(graph, self._ids, "(batch, tokens)")
        _one_of_any_length(graph, self._ids)
        self._tokenizer = _tokenizer(file, recipe.most)

    def __call__(self, sample: Inputs) -> tuple[Mapping[str, Array], Record]:
        found = self._tokenizer.encode(self._recipe.prefix + text_of(sample))
        if not found.ids:
            raise InputError("the input 'text' has no tokens, expected one or more")
        named = {
            self._ids.name: found.ids,
            self._recipe.mask: found.attention_mask,
            self._recipe.types: found.type_ids,
        }
        fed = {name: np.array([named[name]]) for name in (self._ids.name, *self._fed)}
        return fed, {"kept_tokens": len(found.ids)} if found.overflowing else {}


def _times(three: Three, factor: float) -> Three:
    red, green, blue = three
    return red * factor, green * factor, blue * factor


def _tokenizer(file: Path, most: int) -> Any:
    tokenizers = needed(
        "tokenizers", "onnx: option 'text'", 'run `pip install "mercore-onnx[text]"`'
    )
    try:
        found = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # it raises Exception itself
        raise CheckpointError(
            f"{file}: is no file of tokenizers: {error}; fetch it again"
        ) from error
    found.no_padding()
    found.enable_truncation(max_length=most)
    return found


def _one_of_any_length(graph: Graph, slot: Slot) -> None:
    """Raise CheckpointError unless it takes a batch of one and a last axis of any length."""
    if any(axis not in (None, 1) for axis in slot.shape[:-1]):
        raise _shaped(graph, slot, "a batch of any length, or of one, and one channel")
    if slot.shape[-1] is not None:
        raise _shaped(graph, slot, "a last axis of any length")


def _shaped(graph: Graph, slot: Slot, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{graph.file}: input {slot}: expected {expected}; change the options, or export it so"
    )
