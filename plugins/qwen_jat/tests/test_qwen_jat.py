from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import reference_qwen_jat as reference
import tiny_qwen_jat as tiny
import torch
from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from mercore.components import Noted
from mercore.media import FloatArray, Text, Waveform
from mercore_qwen_jat import PROMPT, QwenJAT
from mercore_qwen_jat._model import QwenJATModel

RATE = 16_000
WORDS = "The hen and the 你好 then!"
LENGTHS = [480, 481, 639, 640, 800, 801, 960, 5_000, 16_000, 23_457]
"""Samples: around the least that is read, and odd numbers of frames."""

Pool = Literal["all", "audio", "text"]


@cache
def checkpoint(layout: tiny.Layout = "qwen_audio") -> str:
    return str(tiny.write(Path(tempfile.mkdtemp()), layout))


@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of the pieces that both checkpoints have."""
    return Tokenizer.from_file(f"{checkpoint('qwen2_audio')}/tokenizer.json")


def ids(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False).ids)


def noise(samples: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(samples)).astype(np.float32)


def sample(samples: FloatArray, words: str = WORDS) -> dict[str, Waveform | Text]:
    return {"audio": Waveform(samples, RATE), "text": Text(words)}


def model(layout: tiny.Layout = "qwen_audio", **options: Any) -> QwenJATModel:
    option = QwenJAT(**{"checkpoint": checkpoint(layout), **options})
    function = option.load("cpu", "float32")
    assert isinstance(function, QwenJATModel)
    return function


@cache
def default_model(layout: tiny.Layout) -> QwenJATModel:
    return model(layout)


def encode(function: QwenJATModel, samples: FloatArray, words: str = WORDS) -> FloatArray:
    (result,) = function([sample(samples, words)])
    return result.value if isinstance(result, Noted) else result


def gap(found: FloatArray, expected: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest value where that is above 1."""
    assert found.shape == tuple(expected.shape)
    difference = np.abs(found - expected.numpy()).max()
    return float(difference / max(1.0, float(expected.abs().max())))


def first_states(samples: FloatArray, words: str = WORDS) -> list[torch.Tensor]:
    """Return the hidden states of Qwen-Audio by the formulas, of [audio | transcript | prompt]."""
    weights = tiny.published("qwen_audio")
    table = weights["transformer.wte.weight"].double()
    span = reference.audio_rows(weights, tiny.QWEN_AUDIO, samples)
    read = torch.cat([span, table[ids(words)], table[ids(PROMPT)]])
    return reference.hidden_states(weights, tiny.QWEN_AUDIO, read)


@cache
def published_second() -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """Return transformers' own Qwen2-Audio with the tiny checkpoint, and its processor."""
    folder = checkpoint("qwen2_audio")
    network = Qwen2AudioForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    tokens = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=f"{folder}/tokenizer.json"
    )
    tokens.pad_token = "<|endoftext|>"
    extract = WhisperFeatureExtractor(feature_size=128)  # type: ignore[no-untyped-call]
    processor = Qwen2AudioProcessor(extract, tokens)  # type: ignore[no-untyped-call]
    network.train(False)
    return network, processor


def second_states(samples: FloatArray, text: str) -> tuple[tuple[torch.Tensor, ...], list[int]]:
    """Return the hidden states of transformers' Qwen2-Audio, and the tokens that it read."""
    network, processor = published_second()
    inputs = processor(text=text, audio=[samples], return_tensors="pt", sampling_rate=RATE)
    with torch.inference_mode():
        states = network(**inputs, output_hidden_states=True).hidden_states
    return tuple(state[0] for state in states), inputs["input_ids"][0].tolist()


SPAN = "<|audio_bos|><|AUDIO|><|audio_eos|>"


@pytest.mark.parametrize("length", LENGTHS)
def test_qwen_audio_gives_what_its_formulas_give(length: int) -> None:
    expected = torch.stack(first_states(noise(length))[-4:]).mean(0)
    found = encode(default_model("qwen_audio"), noise(length))
    assert gap(found, expected) < 1e-5


@pytest.mark.parametrize("length", LENGTHS)
def test_qwen2_audio_gives_what_transformers_gives(length: int) -> None:
    # All of it is transformers' own path: the processor's tokens, 30 s of frames, masks.
    states, _ = second_states(noise(length), SPAN + WORDS + PROMPT)
    found = encode(default_model("qwen2_audio"), noise(length))
    assert gap(found, torch.stack(states[-4:]).mean(0)) < 1e-5
