"""`paraformer` beside FunASR's own ``AutoModel.generate``."""

from __future__ import annotations

import logging
import random
import re
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_paraformer as tiny
import torch
from paraformer_reference import RATE, expected, heard, sound, text_of
from pydantic import ValidationError

from mercore.components import Noted, Preprocessor
from mercore.errors import InputError, RegistryError, RunError
from mercore.fingerprints import describe
from mercore.media import FloatArray, Text, Waveform
from mercore.testing import PreprocessorTests
from mercore_paraformer import Paraformer
from mercore_paraformer._asr import FRAMES, Transcriber, pieces, together
from mercore_paraformer._funasr import undisturbed
from mercore_paraformer._greedy import greedy
from mercore_paraformer._readings import Heard, likelihoods, noted
from mercore_paraformer._text import text_of as assembled
from mercore_paraformer.hypotheses import Hypothesis

torch.set_num_threads(1)

CLIPS = [sound(seconds, seed) for seed, seconds in enumerate((1.3, 0.5, 2.1, 0.8, 0.045, 3.7))]
EXPORTED = Path(tempfile.mkdtemp())
HOTWORDS = ("今天", "你是", "hello")


@cache
def folder(*, seaco: bool = False, exported: bool = False, seed: int = 0) -> Path:
    found = tiny.write(Path(tempfile.mkdtemp()), seaco=seaco, seed=seed)
    if exported:
        tiny.write_onnx(found)
    return found


@cache
def transcriber(**options: Any) -> Transcriber:
    function = Paraformer(**options).load("cpu", "float32")
    assert isinstance(function, Transcriber)
    return function


def scores(function: Transcriber, audio: Sequence[FloatArray]) -> list[FloatArray]:
    """Return the scores of each, those that go together from one batch."""
    features = [function._features(own) for own in audio]
    found: dict[int, FloatArray] = {}
    for places in together(list(map(len, features)), function._score.alike):
        own = function._score([features[place] for place in places])
        found.update(zip(places, own, strict=True))
    return [found[place] for place in range(len(audio))]


def texts(function: Transcriber, audio: Sequence[FloatArray] = CLIPS) -> list[str]:
    return [text_of(output) for output in function([heard(own) for own in audio])]


# FunASR: one clip at a time, by its own frontend, inference and text.


@pytest.mark.parametrize("seaco", [False, True])
@pytest.mark.parametrize("seed", [0, 4])
def test_it_gives_what_funasr_gives(seaco: bool, seed: int) -> None:
    checkpoint = folder(seaco=seaco, seed=seed)
    function = transcriber(checkpoint=str(checkpoint))
    for place, own in enumerate(scores(function, CLIPS)):
        want = expected(checkpoint, CLIPS[place])
        assert own.shape == want.scores.shape
        np.testing.assert_allclose(own, want.scores, rtol=0, atol=1e-5)
    wanted = [expected(checkpoint, audio).text for audio in CLIPS]
    assert list(map(unspaced, texts(function))) == list(map(unspaced, wanted))
    assert seaco or texts(function) == wanted  # FunASR's SeACo puts spaces between characters
    assert len(set(wanted)) > 3


def test_padding_changes_nothing() -> None:
    function = transcriber(checkpoint=str(folder()))
    features = [function._features(audio) for audio in CLIPS]
    for own, clip in zip(function._score(features), features, strict=True):
        np.testing.assert_allclose(own, function._score([clip])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("hotwords", [HOTWORDS, tuple(tiny.CHARACTERS) * 2])
def test_hotwords_are_those_of_funasr(hotwords: tuple[str, ...]) -> None:
    checkpoint = folder(seaco=True)
    function = transcriber(checkpoint=str(checkpoint), hotwords=hotwords)
    plain = scores(transcriber(checkpoint=str(checkpoint)), CLIPS[:1])[0]
    for audio in CLIPS:
        want = expected(checkpoint, audio, " ".join(hotwords))
        np.testing.assert_allclose(scores(function, [audio])[0], want.scores, rtol=0, atol=1e-5)
    assert not np.allclose(scores(function, CLIPS[:1])[0], plain, atol=0.1)
    alone = [texts(function, [audio])[0] for audio in CLIPS]
    assert texts(function) == alone


def unspaced(text: str) -> str:
    return text.replace(" ", "")


def test_hotwords_of_several_words_and_in_capitals_are_spelt() -> None:
    once = transcriber(checkpoint=str(folder(seaco=True)), hotwords=("Hello 今天", "你是"))
    again = transcriber(checkpoint=str(folder(seaco=True)), hotwords=(" hello 今天 ", "你 是"))
    assert all(map(np.array_equal, scores(once, CLIPS), scores(again, CLIPS)))


def test_onnx_gives_what_torch_gives() -> None:
    checkpoint = str(folder(exported=True))
    exported = transcriber(checkpoint=checkpoint, backend="onnx")
    loaded = transcriber(checkpoint=checkpoint)
    for own, want in zip(scores(exported, CLIPS), scores(loaded, CLIPS), strict=True):
        assert len(own) == len(want)
        if len(own):
            np.testing.assert_allclose(own, want, rtol=0, atol=1e-4)
    assert texts(exported) == texts(loaded)


# What is noted beside the text.


def test_the_record_has_the_probability_of_each_token() -> None:
    checkpoint = folder()
    function = transcriber(checkpoint=str(checkpoint))
    for audio in CLIPS:
        (output,) = function([heard(audio)])
        want = expected(checkpoint, audio).scores
        spoken = want[want.argmax(1) > 2].max(1)  # blank, start and end come first
        assert isinstance(output, Noted)
        assert output.record["token_confidences"] == pytest.approx(np.exp(spoken), abs=1e-4)
        mean = np.exp(spoken.mean()) if len(spoken) else 0.0
        assert output.record["confidence"] == pytest.approx(mean, abs=1e-4)
        assert output.record["score"] == pytest.approx(spoken.sum(), abs=1e-3)
        best = [tiny.TOKENS[token] for token in want.argmax(1) if token > 2]
        assert output.record["tokens"] == best
        assert "nbest" not in output.record


def test_the_record_lists_readings_of_all_pieces() -> None:
    rows = np.log(np.full((3, 6), 1 / 6, np.float32))
    readings = [Hypothesis((3, 4), -1.0, -1.0), Hypothesis((4,), -2.5, -2.5)]
    pieces = [Heard(rows, readings), Heard(rows, [Hypothesis((5,), -0.5, -0.5)])]
    output = noted(pieces, ("<blank>", "<s>", "</s>", "今", "天", "ok"), nbest=2)
    assert text_of(output) == "今天ok"
    assert output.record["score"] == -1.5
    assert output.record["confidence"] == pytest.approx(1 / 6, abs=1e-4)
    assert output.record["nbest"] == [
        {"text": "今天ok", "score": -1.5},
        {"text": "天ok", "score": -3.0},
    ]


def test_special_tokens_are_no_reading() -> None:
    rows = np.log(np.full((4, 6), 0.02, np.float32))
    for position, token in enumerate((3, 0, 5, 2)):
        rows[position, token] = np.log(0.9)
    found = greedy(rows, {0, 1, 2})
    assert found.tokens == (3, 5)
    assert found.score == found.acoustic == pytest.approx(2 * np.log(0.9))


def test_tokens_are_found_where_they_are_likeliest_together() -> None:
    chances = np.array(
        [[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]], np.float32
    )
    # Three positions are no special token's, but the reading has two tokens: 1 and then 2.
    reading = Hypothesis(tokens=(1, 2), score=0.0, acoustic=0.0)
    found = np.exp(list(likelihoods(Heard(np.log(chances), [reading]), special=[0])))
    np.testing.assert_allclose(found, [0.6, 0.7], rtol=1e-5)


# Text.


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("今 天 2 0 2 4", "今天2024"),
        ("hel@@ lo wor@@ ld", "hello world"),
        ("今 hel@@ lo 天 ok ok", "今hello天ok ok"),
        ("a b c 今 a 天 c b", "ABC今a天CB"),
        ("<s> hello <unk> 's </s>", "hello 's"),
        ("wor@@ 今 ok in@@", "wor今ok in"),
        ("", ""),
    ],
)
def test_tokens_become_text(tokens: str, text: str) -> None:
    assert assembled(tokens.split()) == text


def test_text_is_assembled_as_funasr_does() -> None:
    with undisturbed():
        from funasr.utils.postprocess_utils import sentence_postprocess

    numbers = random.Random(0)
    units: list[tuple[str, ...]] = [
        (token,) for token in tiny.TOKENS[3:] if not token.endswith("@@")
    ]
    units += [("hel@@", "lo"), ("in@@", "in@@", "g"), ("wor@@", "ld")]
    for count in range(400):
        spelt = [token for _ in range(count % 12) for token in numbers.choice(units)]
        assert assembled(spelt) == sentence_postprocess(spelt)[0], spelt


# Audio that is odd.


@pytest.mark.parametrize("length", [0, 1, 399])
def test_less_than_a_frame_has_no_text(length: int) -> None:
    (output,) = transcriber(checkpoint=str(folder()))([heard(CLIPS[0][:length])])
    assert output == Noted(
        Text(""), {"confidence": 0.0, "score": 0.0, "tokens": [], "token_confidences": []}
    )


def test_silence_has_no_text() -> None:
    (output,) = transcriber(checkpoint=str(folder()))([heard(np.zeros(RATE, np.float32))])
    assert text_of(output) == ""


def test_50_ms_are_recognised() -> None:
    checkpoint = folder()
    audio = CLIPS[0][: RATE // 20]
    text = expected(checkpoint, audio).text
    assert texts(transcriber(checkpoint=str(checkpoint)), [audio]) == [text]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    audio = CLIPS[0].copy()
    audio[100] = value
    with pytest.raises(InputError, match="samples that are not finite; check how it was made"):
        transcriber(checkpoint=str(folder()))([heard(audio)])


def test_other_media_and_rates_are_refused() -> None:
    function = transcriber(checkpoint=str(folder()))
    with pytest.raises(InputError, match="expected audio at 16000 Hz"):
        function([{"audio": Waveform(CLIPS[0], 8_000)}])
    with pytest.raises(InputError, match="holds Text"):
        function([{"audio": Text("?")}])


def test_ten_minutes_are_recognised_in_pieces() -> None:
    audio = np.tile(sound(10), 60)
    cut = list(pieces(audio, 60 * RATE))
    assert np.array_equal(np.concatenate(cut), audio)
    assert all(48 * RATE <= len(piece) <= 60 * RATE for piece in cut[:-1])
    (output,) = transcriber(checkpoint=str(folder()))([heard(audio)])
    assert len(text_of(output)) > 600


def test_the_pieces_of_a_clip_are_joined() -> None:
    cut = list(pieces(CLIPS[-1], 2 * RATE))
    assert len(cut) > 1
    function = transcriber(checkpoint=str(folder()), longest=2.0)
    (output,), parts = function([heard(CLIPS[-1])]), function(list(map(heard, cut)))
    spelt = [token for part in parts if isinstance(part, Noted) for token in told(part, "tokens")]
    assert isinstance(output, Noted)
    assert output.record["tokens"] == spelt
    assert text_of(output) == assembled(spelt)


def told(output: Noted[Any], name: str) -> list[Any]:
    """Return a list of the record."""
    found = output.record[name]
    assert isinstance(found, list)
    return found


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    audio = np.full(3 * RATE, 0.1, np.float32)
    audio[int(1.85 * RATE) : int(1.95 * RATE)] = 0.0
    first, *_ = pieces(audio, 2 * RATE + 7)  # any length
    assert 1.85 * RATE <= len(first) <= 1.95 * RATE


# Batches.


def test_batches_are_of_like_length_and_hold_every_clip_once() -> None:
    lengths = [5, 900, 400, 420, 8, 7, 1200, 390]
    groups = list(together(lengths, 0.8))
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        own = [lengths[place] for place in group]
        assert len(own) == 1 or max(own) * len(own) <= FRAMES
        assert min(own) >= 0.8 * max(own)
    assert {2, 3} in map(set, groups)
    assert list(map(len, together(lengths, inf))) == [1] * len(lengths)
    assert sorted(map(len, together([4, 5, 4], 1.0))) == [1, 2]


# What it does to the rest of the process, and what options it takes.


def test_loading_leaves_the_process_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    def state() -> tuple[object, ...]:
        root = logging.getLogger()
        numbers = random.random(), np.random.rand(), torch.rand(1).item()
        return numbers, root.level, list(root.handlers), torch.get_num_threads()

    def seeded() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seeded()
    before = state()
    seeded()
    function = Paraformer(checkpoint=str(folder())).load("cpu", "float32")
    function([heard(CLIPS[0])])
    assert state() == before
    assert capsys.readouterr().out == ""


def test_half_precision_is_near_on_long_clips_too() -> None:
    checkpoint = str(folder())
    half = Paraformer(checkpoint=checkpoint).load("cpu", "bfloat16")
    assert isinstance(half, Transcriber)
    audio = [sound(40)]
    own, want = scores(half, audio)[0], scores(transcriber(checkpoint=checkpoint), audio)[0]
    count = min(len(own), len(want))
    assert abs(len(own) - len(want)) <= 2
    assert np.abs(own[: count // 2] - want[: count // 2]).mean() < 0.1


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(RunError, match="'float16' is for GPUs; use float32 or bfloat16"):
        Paraformer(checkpoint=str(folder())).load("cpu", "float16")


def test_onnx_in_half_precision_is_refused() -> None:
    with pytest.raises(RegistryError, match="dtype 'bfloat16' does not go with `backend: onnx`"):
        Paraformer(checkpoint=str(folder(exported=True)), backend="onnx").load("cpu", "bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"int8": True}, "int8: true needs backend: onnx"),
        ({"hotwords": ("今",), "backend": "onnx"}, "hotwords need backend: torch"),
        ({"hotwords": (" ",)}, "at least 1 character"),
        ({"longest": 0.5}, "greater than or equal to 1"),
        ({"language": "en"}, "Extra inputs"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        Paraformer(**options)


def test_its_identity_is_that_of_the_weights() -> None:
    here, there = (Paraformer(checkpoint=str(tiny.write(Path(tempfile.mkdtemp())))) for _ in "ab")
    assert describe(here) == describe(there)
    assert describe(here) != describe(Paraformer(checkpoint=str(folder(seed=4))))


class TestParaformer(PreprocessorTests):
    component: Preprocessor = Paraformer(checkpoint=str(folder(seed=4)))


class TestSeaco(PreprocessorTests):
    component: Preprocessor = Paraformer(
        checkpoint=str(folder(seaco=True)), hotwords=HOTWORDS, longest=1.5
    )


@pytest.fixture(scope="module")
def exported() -> None:
    """Write the checkpoint here: exporting would make whoever only collects wait."""
    shutil.copytree(folder(exported=True), EXPORTED, dirs_exist_ok=True)


@pytest.mark.usefixtures("exported")
class TestOnnx(PreprocessorTests):
    component: Preprocessor = Paraformer(checkpoint=str(EXPORTED), backend="onnx")
