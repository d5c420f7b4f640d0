"""Texts, prompts, long and short input, and the suite for encoders."""

from __future__ import annotations

import base64
import tempfile
import unicodedata
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_qwen_jat as tiny

from mercore.components import Noted
from mercore.errors import InputError, RegistryError
from mercore.media import FloatArray, Frames, Text, Waveform
from mercore.testing import EncoderTests
from mercore_qwen_jat import PROMPT, QwenJAT
from mercore_qwen_jat._tokens import FastTokens, TiktokenTokens, special_tokens

RATE = 16_000
LAYOUTS: tuple[tiny.Layout, ...] = ("qwen_audio", "qwen2_audio")
TEXTS = [
    "The hen and the 你好 then!",
    "它们'LL  2024\n\n \tthe  end…  ",
    "<|im_end|> is text, <|AUDIO|> and <audio> are",
    "cafe\u0301",
    "🙂 \u00a0x",
]


@cache
def checkpoint(layout: tiny.Layout) -> str:
    return str(tiny.write(Path(tempfile.mkdtemp()), layout))


@cache
def short(layout: tiny.Layout) -> str:
    """Return a checkpoint that reads 860 tokens."""
    config = dict(tiny.CONFIGS[layout])
    if layout == "qwen_audio":
        config["seq_length"] = 860
    else:
        config["text_config"] = {**config["text_config"], "max_position_embeddings": 860}
    return str(tiny.write(Path(tempfile.mkdtemp()), layout, config))


def noise(samples: int) -> FloatArray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def encode(
    path: str, samples: FloatArray, text: str, **options: Any
) -> tuple[FloatArray, Mapping[str, Any]]:
    function = QwenJAT(checkpoint=path, **options).load("cpu", "float32")
    (result,) = function([{"audio": Waveform(samples, RATE), "text": Text(text)}])
    return (result.value, result.record) if isinstance(result, Noted) else (result, {})


def test_special_tokens_have_the_published_numbers() -> None:
    numbers = {token: 151_643 + i for i, token in enumerate(special_tokens())}
    expected = {
        "<|endoftext|>": 151_643,
        "<|im_start|>": 151_644,
        "<|im_end|>": 151_645,
        "<|extra_0|>": 151_646,
        "<|extra_204|>": 151_850,
        "[[[AUDIO:modality]]]": 151_851,
        "<|startofanalysis|>": 151_853,
        "<|emotion_recognition|>": 154_887,
        "<audio>": 155_163,
        "</audio>": 155_164,
    }
    assert {token: numbers[token] for token in expected} == expected
    assert len(numbers) == tiny.SPECIAL
    assert max(numbers.values()) + 1 == 155_165


def test_a_file_of_the_published_size_gives_the_published_numbers(tmp_path: Path) -> None:
    lengths = (piece.to_bytes(size) for size in (1, 2, 3) for piece in range(256**size))
    lines = [
        f"{base64.b64encode(piece).decode()} {rank}\n"
        for rank, piece in enumerate(islice(lengths, 151_643))
    ]
    (tmp_path / "qwen.tiktoken").write_text("".join(lines))
    tokens = TiktokenTokens(tmp_path / "qwen.tiktoken")
    assert (tokens.number("<audio>"), tokens.number("</audio>")) == (155_163, 155_164)
    assert tokens.marked("<|im_start|><|emotion_recognition|>") == [151_644, 154_887]
    assert tokens.size == 155_165


def test_special_tokens_follow_the_ranks_of_the_file(tmp_path: Path) -> None:
    tiny.write_tiktoken(tmp_path / "qwen.tiktoken")
    tokens = TiktokenTokens(tmp_path / "qwen.tiktoken")
    assert tokens.number("<|im_start|>") == tiny.RANKS + 1
    assert tokens.marked("the<|im_end|>") == [*tokens.plain("the"), tiny.RANKS + 2]
    assert tokens.size == tiny.RANKS + tiny.SPECIAL


def test_both_tokenizers_cut_text_alike(tmp_path: Path) -> None:
    # tiktoken and tokenizers are independent of each other.
    tiny.write_tiktoken(tmp_path / "qwen.tiktoken")
    tiny.write_tokenizer(tmp_path / "tokenizer.json")
    first = TiktokenTokens(tmp_path / "qwen.tiktoken")
    second = FastTokens(tmp_path / "tokenizer.json")
    pieces = {number: piece for piece, number in tiny.ranks().items()}
    for text in TEXTS:
        plain = first.plain(text)
        assert plain == second.plain(text)
        assert b"".join(pieces[n] for n in plain).decode() == unicodedata.normalize("NFC", text)
    assert first.plain("the") == [tiny.ranks()[b"the"]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_text_without_a_word_is_no_transcript(layout: tiny.Layout, text: str) -> None:
    samples, path = noise(8_000), checkpoint(layout)
    whole, _ = encode(path, samples, text)
    audio, _ = encode(path, samples, text, pool="audio")
    assert len(whole) == len(audio) + len(PROMPT.encode()) - _merged(PROMPT)
    assert np.array_equal(whole[: len(audio)], audio)
    words, _ = encode(path, samples, text, pool="text")
    assert np.array_equal(words, np.zeros((1, 64), np.float32))


def _merged(text: str) -> int:
    """Return how many fewer tokens than bytes there are."""
    tokens = FastTokens(Path(checkpoint("qwen2_audio")) / "tokenizer.json")
    return len(text.encode()) - len(tokens.plain(text))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_transcript_knows_the_audio_and_not_the_other_way_round(layout: tiny.Layout) -> None:
    path = checkpoint(layout)
    one, other = noise(8_000), noise(8_000)[::-1].copy()
    assert not np.allclose(
        encode(path, one, "the", pool="text")[0], encode(path, other, "the", pool="text")[0]
    )
    heard = [encode(path, one, text, pool="audio")[0] for text in ("the", "hen")]
    assert np.abs(heard[0] - heard[1]).max() < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_silence_is_encoded(layout: tiny.Layout) -> None:
    matrix, record = encode(checkpoint(layout), np.zeros(16_000, np.float32), "the")
    assert np.isfinite(matrix).all()
    assert record == {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_audio_over_30_seconds_is_cut_and_the_record_says_so(layout: tiny.Layout) -> None:
    samples = noise(31 * RATE + 16)
    matrix, record = encode(checkpoint(layout), samples, "the", pool="audio")
    assert record == {"seconds": 31.001, "read": 30.0}
    assert matrix.shape == (752, 64)
    cut, record = encode(checkpoint(layout), samples[: 30 * RATE], "the", pool="audio")
    assert record == {}
    assert np.array_equal(matrix, cut)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_long_transcript_is_cut_and_the_record_says_so(layout: tiny.Layout) -> None:
    samples, path = noise(31 * RATE), short(layout)
    prompt = len(PROMPT.encode()) - _merged(PROMPT)
    room = 860 - 752 - prompt
    matrix, record = encode(path, samples, "x" * 99)
    assert record == {"seconds": 31.0, "read": 30.0, "tokens": 99, "read_tokens": room}
    assert len(matrix) == 860
    cut, record = encode(path, samples, "x" * room)
    assert record == {"seconds": 31.0, "read": 30.0}
    assert np.array_equal(matrix, cut)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prompt_that_leaves_no_room_is_refused(layout: tiny.Layout) -> None:
    with pytest.raises(RegistryError, match=r"'prompt' has 108 tokens, 1 too many beside 30 s"):
        QwenJAT(checkpoint=short(layout), prompt="x" * 108).load("cpu", "float32")
    matrix, record = encode(short(layout), noise(30 * RATE), "xx", prompt="x" * 107)
    assert len(matrix) == 860
    assert record == {"tokens": 2, "read_tokens": 1}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("samples", [0, 1, 479])
def test_audio_under_30_milliseconds_is_refused(layout: tiny.Layout, samples: int) -> None:
    with pytest.raises(InputError, match=rf"has {samples} samples, expected 480 or more \(30 ms\)"):
        encode(checkpoint(layout), noise(samples), "the")


def test_other_media_are_refused() -> None:
    function = QwenJAT(checkpoint=checkpoint("qwen_audio")).load("cpu", "float32")
    audio, text = Waveform(noise(480), RATE), Text("the")
    with pytest.raises(InputError, match="'audio' has 8000 Hz, expected audio at 16000 Hz"):
        function([{"audio": Waveform(noise(480), 8_000), "text": text}])
    frames = Frames(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1))
    with pytest.raises(InputError, match="'text' holds Frames, expected text"):
        function([{"audio": audio, "text": frames}])


def test_values_that_are_not_finite_are_refused() -> None:
    samples = noise(1_000)
    samples[7] = np.nan
    with pytest.raises(InputError, match="samples that are not finite"):
        encode(checkpoint("qwen_audio"), samples, "the")


def test_special_tokens_count_in_the_prompt_alone() -> None:
    samples, tag = noise(1_000), "<|emotion_recognition|>"
    path = checkpoint("qwen_audio")
    none, _ = encode(path, samples, "the", prompt="")
    assert len(none) == len(encode(path, samples, "", prompt="")[0]) + 1
    assert len(encode(path, samples, "the", prompt=tag)[0]) == len(none) + 1
    as_text, _ = encode(path, samples, tag, prompt="", pool="text")
    assert len(as_text) == len(tag)


@pytest.mark.parametrize(
    ("layout", "prompt", "message"),
    [
        ("qwen_audio", "what<|AUDIO|>?", r"has '<\|AUDIO\|>', which is no special token"),
        ("qwen2_audio", "<|emotion_recognition|>", r"which is no special token of the checkpoint"),
        ("qwen_audio", "<audio>a.wav</audio> what?", r"the token '<audio>'; the audio stands"),
        ("qwen2_audio", "<|AUDIO|>", r"the token '<\|AUDIO\|>'; the audio stands before"),
    ],
)
def test_prompts_with_tokens_that_cannot_be_are_refused(
    layout: tiny.Layout, prompt: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        QwenJAT(checkpoint=checkpoint(layout), prompt=prompt).load("cpu", "float32")


@pytest.mark.parametrize(
    ("layers", "message"),
    [((6,), r"names \[6\], but .* 0 to 5"), ((-1, 5), r"names a hidden state twice")],
)
def test_layers_that_are_not_there_are_refused(layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        QwenJAT(checkpoint=checkpoint("qwen_audio"), layers=layers).load("cpu", "float32")


class TestQwenAudio(EncoderTests):
    component = QwenJAT(checkpoint=checkpoint("qwen_audio"), layers=(-2, -1), reduce="sum")


class TestQwen2Audio(EncoderTests):
    component = QwenJAT(
        checkpoint=checkpoint("qwen2_audio"), pool="text", prompt="Well?", template="chat"
    )
