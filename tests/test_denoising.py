from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from mercore.components import Inputs, Preprocessor, Transform
from mercore.denoising import (
    Chooser,
    Separated,
    SpeechChoice,
    decide,
    noisy_audio,
    similarity,
    template_of,
)
from mercore.errors import InputError, PluginError, RegistryError
from mercore.media import Audio, FloatArray, Frames, Text, Waveform, Words
from mercore.plugins import Plugins

RATE = 16_000


class Spelled(Preprocessor):
    """Reads the loudness of audio as a text, so that a test says what is heard where."""

    name = "spelled"
    inputs: ClassVar = {"audio": Audio(rate=RATE)}
    output = Words()

    texts: tuple[str, ...]
    """What is said in audio of level 0, 0.1, 0.2 and so on."""

    def load(self, device: str, dtype: str) -> Transform:
        def transcribe(batch: Sequence[Inputs]) -> list[Text]:
            return [Text(self.texts[level(noisy_audio(sample).samples)]) for sample in batch]

        return transcribe


class Louder(Spelled):
    """Reads audio at 8 kHz."""

    name = "louder"
    inputs: ClassVar = {"audio": Audio(rate=RATE // 2)}


class Captioned(Spelled):
    """Reads audio and text."""

    name = "captioned"
    inputs: ClassVar = {"audio": Audio(rate=RATE), "text": Words()}


class Silencer(Preprocessor):
    """Makes audio of audio."""

    name = "silencer"
    inputs: ClassVar = {"audio": Audio(rate=RATE)}
    output = Audio(rate=RATE)

    def load(self, device: str, dtype: str) -> Transform:
        return lambda batch: [sample["audio"] for sample in batch]


def level(samples: FloatArray) -> int:
    return round(float(np.abs(samples[len(samples) // 2])) * 10)


def tone(step: int) -> FloatArray:
    return np.full(RATE // 4, step / 10, np.float32)


def chosen(noisy: str, first: str, second: str, **options: object) -> tuple[int, dict[str, object]]:
    """Return the level of the audio that is chosen when these texts are heard, and the record."""
    asr = options.pop("asr", Spelled)
    choice = SpeechChoice(asr=asr(texts=(noisy, first, second)), **options)  # type: ignore[operator, arg-type]
    sample = Separated(Waveform(tone(0), RATE), {"first": tone(1), "second": tone(2)})
    (output,) = Chooser(choice, "cpu", "float32")([sample])
    assert isinstance(output.value, Waveform)
    return level(output.value.samples), dict(output.record)


@pytest.mark.parametrize(
    ("text", "template", "unit", "expected"),
    [
        ("abcd", "abcd", "characters", 1.0),
        ("abcd", "abxd", "characters", 0.75),
        ("abcd", "ab", "characters", 0.5),  # of the longer one
        ("", "abcd", "characters", 0.0),
        ("", "", "characters", 1.0),
        ("Don't go!", "dont GO", "characters", 1.0),
        ("今天，下雨。", "今天下雨", "characters", 1.0),
        ("ＡＢＣ１", "abc1", "characters", 1.0),  # full width
        ("今天下雨", "昨天下雪", "characters", 0.5),
        ("I don't know", "i don't KNOW.", "words", 1.0),
        ("we go home", "we went home", "words", 2 / 3),
        ("我要go home", "我 要 go", "words", 0.75),
    ],
)
def test_similarity_is_one_less_the_share_of_edits(
    text: str, template: str, unit: str, expected: float
) -> None:
    assert similarity(text, template, unit) == pytest.approx(expected)  # type: ignore[arg-type]
    assert similarity(template, text, unit) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.9, 0.2, "first"),
        (0.2, 0.9, "second"),
        (0.9, 0.81, "original"),
        (0.8, 0.7, "original"),  # 0.1 does not exceed 0.1
        (0.7, 0.8, "original"),
        (0.71, 0.6, "first"),
        (0.0, 0.0, "original"),
        (1.0, 1.0, "original"),
    ],
)
def test_the_decision_is_that_of_the_paper(first: float, second: float, expected: str) -> None:
    assert decide({"first": first, "second": second}, 0.1) == expected
    assert decide({"second": second, "first": first}, 0.1) == expected


def test_the_recording_that_says_the_same_is_taken() -> None:
    level, record = chosen("we went home", "la la la", "we went home")
    assert level == 2
    assert record == {
        "decision": "second",
        "texts": {"noisy": "we went home", "first": "la la la", "second": "we went home"},
        "similarity": {"first": 0.0, "second": 1.0},
    }
    assert chosen("we went home", "we went hom", "")[0] == 1


def test_the_original_is_kept_where_the_recordings_do_not_differ_enough() -> None:
    level, record = chosen("we went home", "we went home", "we went hom")
    assert (level, record["decision"]) == (0, "original")
    assert chosen("we went home", "we went home", "we went hom", margin=0.05)[0] == 1


@pytest.mark.parametrize("texts", [("", "", ""), ("", "", "abc"), (" ?!", "abc", "")])
def test_the_original_is_kept_where_nothing_is_understood(texts: tuple[str, str, str]) -> None:
    level, record = chosen(*texts)
    assert (level, record["decision"]) == (0, "original")


def test_words_may_be_compared_instead_of_characters() -> None:
    texts = ("he is here", "he was here", "she is there")
    assert chosen(*texts)[1]["similarity"] == {"first": 0.7778, "second": 0.8}
    assert chosen(*texts, similarity="words")[1]["similarity"] == {
        "first": 0.6667,
        "second": 0.3333,
    }


def test_a_template_that_is_wired_is_not_transcribed_again() -> None:
    choice = SpeechChoice(asr=Spelled(texts=("xyz", "we went home", "nothing")))
    sources = {"first": tone(1), "second": tone(2)}
    known = Separated(Waveform(tone(0), RATE), sources, "we went home", {"reduction_db": 3.0})
    unknown = Separated(Waveform(tone(0), RATE), sources)
    outputs = Chooser(choice, "cpu", "float32")([known, unknown])
    assert [output.record["decision"] for output in outputs] == ["first", "original"]
    assert outputs[0].record["reduction_db"] == 3.0
    assert [output.record["texts"] for output in outputs] == [
        {"noisy": noisy, "first": "we went home", "second": "nothing"}
        for noisy in ("we went home", "xyz")
    ]


def test_audio_is_resampled_to_what_the_recogniser_reads() -> None:
    assert chosen("yes", "no", "yes", asr=Louder)[0] == 2


def test_a_template_is_read_only_where_there_is_a_choice() -> None:
    assert set(SpeechChoice().needs()) == {"audio"}
    assert set(SpeechChoice(asr=Spelled(texts=())).needs()) == {"audio", "text"}


@pytest.mark.parametrize(
    ("asr", "message"),
    [(Silencer(), "makes no text"), (Captioned(texts=()), "reads audio, text, expected audio")],
)
def test_what_cannot_transcribe_is_refused(asr: Preprocessor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechChoice(asr=asr)


def test_the_recogniser_of_a_registry_is_checked() -> None:
    with pytest.raises(RegistryError, match="'deepfilternet' makes no text"):
        Plugins().build(Preprocessor, "deepfilternet", {"asr": {"uses": "deepfilternet"}})
    with pytest.raises(PluginError, match="did you mean 'whisper_asr'"):
        Plugins().build(Preprocessor, "deepfilternet", {"asr": {"uses": "whisper_as"}})


@pytest.mark.parametrize(
    ("media", "message"),
    [
        (Text("words"), "holds Text, expected audio"),
        (Waveform(np.zeros(0, np.float32), RATE), "0 samples"),
        (Waveform(np.full(9, np.nan, np.float32), RATE), "not finite"),
    ],
)
def test_audio_that_cannot_be_separated_is_refused(media: Text | Waveform, message: str) -> None:
    with pytest.raises(InputError, match=message):
        noisy_audio({"audio": media})


def test_a_template_is_text() -> None:
    assert template_of({}) is None
    frames = Frames(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1))
    with pytest.raises(InputError, match="holds Frames, expected text"):
        template_of({"text": frames})
