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
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
)

from mercore.components import Noted
from mercore.media import FloatArray, Text, Waveform
from mercore_qwen_jat import PROMPT, QwenJAT
from mercore_qwen_jat._mel import log_mel, padded_length
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
    difference = float(np.abs(found - expected.numpy()).max() / expected.abs().max().clamp(min=1))
    print(f"{difference:.1e}")  # shown by pytest -s
    return difference


def first_states(samples: FloatArray, words: str = WORDS) -> list[torch.Tensor]:
    """Return the hidden states of Qwen-Audio by the formulas, of [audio | transcript | prompt]."""
    weights = tiny.published("qwen_audio")
    table = weights["transformer.wte.weight"].double()
    span = reference.audio_rows(weights, tiny.QWEN_AUDIO, samples)
    read = torch.cat([span, table[ids(words)], table[ids(PROMPT)]])
    return reference.hidden_states(weights, tiny.QWEN_AUDIO, read)


def second_states(samples: FloatArray, text: str) -> tuple[tuple[torch.Tensor, ...], list[int]]:
    """Return the hidden states of transformers' Qwen2-Audio, and the tokens that it read."""
    network, processor = reference.second(checkpoint("qwen2_audio"))
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


@pytest.mark.parametrize("length", [479_000, 480_000])
def test_30_seconds_give_the_same_in_both(length: int) -> None:
    samples = noise(length)
    expected = torch.stack(first_states(samples)[-4:]).mean(0)
    assert gap(encode(default_model("qwen_audio"), samples), expected) < 1e-5
    states, _ = second_states(samples, SPAN + WORDS + PROMPT)
    expected = torch.stack(states[-4:]).mean(0)
    assert gap(encode(default_model("qwen2_audio"), samples), expected) < 1e-5


def test_qwen_audios_encoder_gives_what_transformers_gives() -> None:
    # Independent of the formulas: a whole class of transformers, which insists on 30 s.
    weights, audio = tiny.published("qwen_audio"), tiny.QWEN_AUDIO["audio"]
    network = Qwen2AudioEncoder(
        Qwen2AudioEncoderConfig(
            num_mel_bins=80,
            d_model=audio["n_state"],
            encoder_layers=audio["n_layer"],
            encoder_attention_heads=audio["n_head"],
            encoder_ffn_dim=4 * audio["n_state"],
        )
    )
    names = {
        "attn.query": "self_attn.q_proj",
        "attn.key": "self_attn.k_proj",
        "attn.value": "self_attn.v_proj",
        "attn.out": "self_attn.out_proj",
        "attn_ln": "self_attn_layer_norm",
        "mlp_ln": "final_layer_norm",
        "mlp.0": "fc1",
        "mlp.2": "fc2",
        "blocks": "layers",
        "ln_post": "layer_norm",
        "positional_embedding": "embed_positions.weight",
    }
    state: tiny.Weights = {}
    rest: tiny.Weights = {}
    for name, value in weights.items():
        if name.startswith("transformer.audio."):
            own = name.removeprefix("transformer.audio.")
            for old, new in names.items():
                own = own.replace(old, new)
            (rest if own.startswith(("proj", "audio_bos")) else state)[own] = value
    network.load_state_dict(state, strict=True)
    network.train(False)
    mel = reference.whisper_mel(noise(480_000), 80)
    with torch.inference_mode():
        x = network(mel[None]).last_hidden_state[0]
    first, last = rest["audio_bos_eos_token.weight"]
    x = torch.cat([first[None], x @ rest["proj.weight"].T + rest["proj.bias"], last[None]])
    # The hidden state 0 is what the language model reads.
    found = encode(model(layers=(0,), pool="audio"), noise(480_000))
    assert gap(found, x) < 1e-5


@pytest.mark.parametrize("layers", [(-1,), (0,), (2,), (-2,), (0, 5), (1, 3), (-4, -3, -2, -1)])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_layers_are_those_that_are_named(layers: tuple[int, ...], reduce: str) -> None:
    scale = len(layers) if reduce == "mean" else 1
    first = torch.stack([first_states(noise(9_000))[layer] for layer in layers]).sum(0) / scale
    found = encode(model("qwen_audio", layers=layers, reduce=reduce), noise(9_000))
    assert gap(found, first) < 1e-5
    states, _ = second_states(noise(9_000), SPAN + WORDS + PROMPT)
    second = torch.stack([states[layer] for layer in layers]).sum(0) / scale
    found = encode(model("qwen2_audio", layers=layers, reduce=reduce), noise(9_000))
    assert gap(found, second) < 1e-5


@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("layout", ["qwen_audio", "qwen2_audio"])
def test_pools_are_parts_of_the_whole(layout: tiny.Layout, template: str) -> None:
    samples = noise(16_000)
    whole, audio, text = (
        encode(model(layout, pool=pool, template=template), samples)
        for pool in ("all", "audio", "text")
    )
    assert len(audio) == 25 + 2
    assert len(text) == len(ids(WORDS))
    head = 0
    if template == "chat":
        head = len(ids("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"))
        head += len(ids("<|im_start|>user\nAudio 1:")) + (layout == "qwen2_audio")  # and a space
    start = head + 27 + (template == "chat")  # and a line break
    tail = len(ids(PROMPT + "<|im_end|>\n<|im_start|>assistant\n" * (template == "chat")))
    assert len(whole) == start + len(text) + tail
    assert np.array_equal(whole[head : head + 27], audio)
    assert np.array_equal(whole[start : start + len(text)], text)


def test_chat_has_the_form_of_the_processors_template() -> None:
    _, processor = reference.second(checkpoint("qwen2_audio"))
    turn: Any = [
        {"type": "audio", "audio_url": "clip.wav"},
        {"type": "text", "text": WORDS + PROMPT},
    ]
    chat: Any = [{"role": "user", "content": turn}]
    text = processor.apply_chat_template(
        chat,
        chat_template=processor.default_chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    states, _ = second_states(noise(9_000), text)
    found = encode(model("qwen2_audio", template="chat"), noise(9_000))
    assert gap(found, torch.stack(states[-4:]).mean(0)) < 1e-5


def test_chat_of_qwen_audio_has_its_form() -> None:
    weights = tiny.published("qwen_audio")
    table = weights["transformer.wte.weight"].double()
    start, end = tiny.RANKS + 1, tiny.RANKS + 2
    head = [start, *ids("system\nYou are a helpful assistant."), end, *ids("\n")]
    head += [start, *ids("user\nAudio 1:")]
    tail = [*ids("\n" + WORDS + PROMPT), end, *ids("\n"), start, *ids("assistant\n")]
    span = reference.audio_rows(weights, tiny.QWEN_AUDIO, noise(9_000))
    read = torch.cat([table[head], span, table[tail]])
    states = reference.hidden_states(weights, tiny.QWEN_AUDIO, read)
    found = encode(model("qwen_audio", template="chat"), noise(9_000))
    assert gap(found, torch.stack(states[-4:]).mean(0)) < 1e-5


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("length", [480, 799, 16_000, 16_001, 479_100, 479_999, 480_000, 500_000])
def test_the_spectrogram_is_whispers(bins: int, length: int) -> None:
    samples = noise(length)[:480_000]
    waves = np.zeros((1, padded_length(len(samples))), np.float32)
    waves[0, : len(samples)] = samples
    found = log_mel(torch.from_numpy(waves), bins)[0]
    expected = reference.whisper_mel(noise(length), bins)
    assert len(waves[0]) < 480_000 or found.shape == expected.shape
    assert gap(found.numpy(), expected[:, : found.shape[1]]) < 1e-5
    silent = (4 + max(-10.0, 4 * float(expected.max()) - 4 - 8)) / 4
    assert torch.allclose(expected[:, found.shape[1] :], torch.tensor(silent), atol=1e-5)


@pytest.mark.parametrize("pool", ["all", "audio", "text"])
@pytest.mark.parametrize("layout", ["qwen_audio", "qwen2_audio"])
def test_padded_batches_give_what_single_clips_give(layout: tiny.Layout, pool: Pool) -> None:
    function = model(layout, pool=pool)
    texts = [WORDS, "", "the", WORDS * 9, "你好", "a b c", WORDS, "", "then", "h"]
    batch = [sample(noise(n, n), words) for n, words in zip(LENGTHS, texts, strict=True)]
    single = [encode(function, each["audio"].samples, each["text"].content) for each in batch]  # type: ignore[union-attr]
    for padded in (False, True):
        function.padded = padded
        for found, expected in zip(function(batch), single, strict=True):
            assert isinstance(found, np.ndarray)
            assert gap(found, torch.from_numpy(expected)) < 1e-5


@pytest.mark.parametrize("layout", ["qwen_audio", "qwen2_audio"])
def test_a_batch_with_30_seconds_gives_what_single_clips_give(layout: tiny.Layout) -> None:
    function = model(layout, layers=(-1,))
    clips = [noise(600), noise(480_000), noise(479_999, 1), noise(30_000)]
    single = [encode(function, clip) for clip in clips]
    function.padded = True
    for found, expected in zip(function([sample(clip) for clip in clips]), single, strict=True):
        assert isinstance(found, np.ndarray)
        assert gap(found, torch.from_numpy(expected)) < 1e-5


def test_attention_is_torchs() -> None:
    for layout in ("qwen_audio", "qwen2_audio"):
        network = default_model(layout)._model
        assert network.encoder.config._attn_implementation == "sdpa"
        assert network.llm.config._attn_implementation == "sdpa"
