from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_mossformer2 as tiny
import torch
from mossformer2_reference import reference
from pydantic import ValidationError
from safetensors.torch import save_file

from mercore.components import Inputs
from mercore.decode import read_audio
from mercore.errors import CheckpointError, InputError, RunError
from mercore.media import FloatArray, Text, Waveform
from mercore.testing import PreprocessorTests
from mercore_mossformer2 import MossFormer2
from mercore_mossformer2._layers import Depthwise
from mercore_mossformer2._model import Separator, at_its_level, network
from mercore_mossformer2._published import published
from mercore_mossformer2._windows import in_windows
from mercore_starter.speech import WhisperASR

RATE = 16_000
ASR = WhisperASR(beam=1, padding=1)
SPEECH = "tests/data/sense_and_sensibility_01_0870.flac"


torch.set_num_threads(1)  # tiny networks gain nothing by more


@cache
def folder(rate: int) -> Path:
    return tiny.write(Path(tempfile.mkdtemp()), rate)


@pytest.fixture(scope="module")
def theirs() -> Any:
    """ModelScope's module with the tiny weights: all of its names, and no other."""
    module = reference(tiny.WIDTH, tiny.BLOCKS)
    module.load_state_dict(tiny.tensors(), strict=True)
    return module


def sound(samples: int, seed: int = 0) -> FloatArray:
    """Return noise that gets louder and softer."""
    numbers = np.random.default_rng(seed)
    swell = 1 + np.sin(np.arange(samples) / 700 + seed)
    return (0.05 * swell * numbers.standard_normal(samples)).astype(np.float32)


def sample(samples: FloatArray, text: str | None = None) -> Inputs:
    audio = Waveform(samples, RATE)
    return {"audio": audio} if text is None else {"audio": audio, "text": Text(text)}


@cache
def separator(rate: int) -> Separator:
    """Return what is loaded with the weights of that rate, the same ones; 8 kHz cuts at 2 s."""
    window, overlap = (2, 1) if rate == 8_000 else (30, 4)
    own = MossFormer2(checkpoint=str(folder(rate)), asr=ASR, window=window, overlap=overlap).load(
        "cpu", "float32"
    )
    torch.set_num_threads(1)  # the recogniser's library sets it
    assert isinstance(own, Separator)
    return own


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("samples", [24, 100, 2_047, 2_055, 2_056, 5_000, 16_005])
def test_the_network_equals_modelscopes(theirs: Any, rate: int, samples: int) -> None:
    own = network(published(str(folder(rate))), "cpu", "float32")
    audio = torch.from_numpy(sound(samples))
    with torch.inference_mode():
        expected = theirs(audio[None])[0].T
        found = own(audio)
    assert found.shape == (2, samples)
    assert expected.abs().max() > 0.01
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("frames", [1, 30, 5_000])
def test_the_convolution_of_a_gpu_equals_that_of_a_cpu(frames: int, dilation: int) -> None:
    numbers = torch.Generator().manual_seed(frames)
    conv = Depthwise(torch.randn(300, 17, generator=numbers), dilation)
    x = torch.randn(frames, 300, generator=numbers)  # 5,000 are three tiles
    torch.testing.assert_close(conv.at_once(x), conv(x), atol=1e-5, rtol=0)


def test_every_weight_counts() -> None:
    """Changing any published weight changes the result: none is read and then left out."""
    found = published(str(folder(16_000)))
    audio = torch.from_numpy(sound(800))
    with torch.inference_mode():
        before = network(found, "cpu", "float32")(audio)
        for name, weight in found.weights.items():
            numbers = torch.Generator().manual_seed(1)
            other = weight + 0.5 * torch.randn(weight.shape, generator=numbers)
            changed = type(found)({**found.weights, name: other}, found.blocks, found.rate)
            after = network(changed, "cpu", "float32")(audio)
            assert not torch.allclose(before, after, atol=1e-6), name
    assert len(found.weights) == 109


def test_the_layouts_say_their_rate(tmp_path: Path) -> None:
    assert published(str(folder(8_000))).rate == 8_000
    assert published(str(folder(16_000))).rate == 16_000
    assert published(str(folder(8_000)), 16_000).rate == 16_000
    found = tiny.tensors()
    save_file(found, tmp_path / "model.safetensors")
    assert published(str(tmp_path)).rate == 8_000
    wide = {**tiny.CONFIGURATION, "model": {"type": "speech_mossformer2_separation_temporal_16k"}}
    (tmp_path / "configuration.json").write_text(json.dumps(wide))
    assert published(str(tmp_path)).rate == 16_000
    assert published(str(tmp_path / "model.safetensors")).rate == 8_000


def test_a_flat_file_of_clearvoice_is_read(tmp_path: Path) -> None:
    flat = tmp_path / "last_best_checkpoint.pt"
    torch.save(tiny.clearvoice(tiny.tensors()), flat)
    (tmp_path / "last_checkpoint.pt").write_bytes(b"another one")
    (tmp_path / "last_best_checkpoint").write_text("checkpoints/last_best_checkpoint.pt")
    nested = published(str(folder(16_000))).weights
    for given in (flat, tmp_path):
        found = published(str(given))
        assert found.rate == 16_000
        assert all(torch.equal(found.weights[name], nested[name]) for name in nested)


def _without(name: str) -> Callable[[tiny.Tensors], tiny.Tensors]:
    return lambda found: {own: weight for own, weight in found.items() if name not in own}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("layers.1.to_qk.mdl.1.bias"), "missing: .*to_qk"),
        (_without("layers.0."), r"holds blocks \[1\]"),
        (_without("enc.conv1d"), "lacks enc.conv1d.weight"),
        (_without("mossformerM"), "expected blocks"),
        (lambda found: {**found, "mask_net.extra": torch.ones(1)}, "not expected: mask_net.extra"),
        (
            lambda found: {**found, "mask_net.conv1d_out.weight": torch.ones(48, 16, 1)},
            "conv1d_out.*48.*expected",
        ),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, change: Callable[[tiny.Tensors], tiny.Tensors], message: str
) -> None:
    torch.save(change(tiny.tensors()), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        published(str(tmp_path))


def test_a_note_that_names_no_file_is_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "last_best_checkpoint").write_text("another.pt\n")
    with pytest.raises(CheckpointError, match=r"'another\.pt', which is no file of its folder"):
        published(str(tmp_path))


def test_the_choice_needs_a_recogniser() -> None:
    with pytest.raises(ValidationError, match="separates two voices and needs `asr`"):
        MossFormer2()


def test_windows_that_overlap_by_more_than_half_are_refused() -> None:
    with pytest.raises(ValidationError, match="overlap: 4 is more than half of window: 6"):
        MossFormer2(asr=ASR, window=6)


def test_float16_is_refused() -> None:
    with pytest.raises(RunError, match=r"float16.*too narrow"):
        MossFormer2(checkpoint=str(folder(8_000)), asr=ASR).load("cpu", "float16")


def test_bfloat16_is_near() -> None:
    found = published(str(folder(16_000)))
    audio = torch.from_numpy(sound(8_000))
    with torch.inference_mode():
        exact = network(found, "cpu", "float32")(audio)
        rough = network(found, "cpu", "bfloat16")(audio.bfloat16()).float()
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()


def two_voices(seconds: float) -> tuple[FloatArray, FloatArray]:
    """Return two voices that come and go: real speech, and itself backwards and slower."""
    speech = read_audio(SPEECH, RATE).samples
    length = round(seconds * RATE)
    slower = np.interp(np.arange(0, len(speech) - 1, 0.8), np.arange(len(speech)), speech[::-1])
    one, other = np.resize(speech, length), 0.5 * np.resize(slower, length)
    return one.astype(np.float32), other.astype(np.float32)


def swaps_at_random(
    one: FloatArray, other: FloatArray, seed: int
) -> tuple[Callable[[FloatArray], FloatArray], list[bool]]:
    """Return a separating function that gives the voices in an order of its own each time.

    Its recordings are not perfect: each holds traces of the other voice, and noise.
    """
    numbers = np.random.default_rng(seed)
    mixture, orders = one + other, []

    def separate(audio: FloatArray) -> FloatArray:
        begins = np.flatnonzero(mixture[: len(mixture) - len(audio) + 1] == audio[0])
        (start,) = (at for at in begins if np.array_equal(mixture[at : at + len(audio)], audio))
        own = slice(start, start + len(audio))
        pair = np.stack([one[own] + 0.1 * other[own], other[own] + 0.1 * one[own]])
        pair += 0.003 * numbers.standard_normal(pair.shape)
        orders.append(bool(numbers.integers(2)))
        return (pair[::-1] if orders[-1] else pair).astype(np.float32)

    return separate, orders


def fidelity(found: FloatArray, voice: FloatArray) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB."""
    target = (found @ voice) / (voice @ voice) * voice
    return float(10 * np.log10((target @ target) / np.square(found - target).sum()))


@pytest.mark.parametrize("seed", range(3))
def test_voices_stay_in_their_recordings(seed: int) -> None:
    one, other = two_voices(40)
    separate, orders = swaps_at_random(one, other, seed)
    joined = in_windows(separate, one + other, 6 * RATE, 2 * RATE)
    assert joined.windows == len(orders) == 10
    assert len(set(orders)) == 2  # it did swap them
    first, second = (one, other) if not orders[0] else (other, one)
    for start in range(0, len(one), 4 * RATE):
        own = slice(start, start + 4 * RATE)
        assert fidelity(joined.sources[0, own], first[own]) > 6
        assert fidelity(joined.sources[1, own], second[own]) > 6
    assert 0.1 < joined.sureness <= 1


def test_a_voice_that_pauses_at_a_seam_stays_in_its_recording() -> None:
    one, other = two_voices(20)
    other[7 * RATE : 13 * RATE] = 0  # silent in the second and the third overlap
    separate, orders = swaps_at_random(one, other, 2)
    joined = in_windows(separate, one + other, 6 * RATE, 2 * RATE)
    assert len(set(orders)) == 2
    first, second = (one, other) if not orders[0] else (other, one)
    assert fidelity(joined.sources[0], first) > 10
    assert fidelity(joined.sources[1], second) > 10


@pytest.mark.parametrize("length", [1, 5, 99, 100, 101, 149, 151, 1_000])
def test_windows_join_to_the_whole(length: int) -> None:
    audio = sound(length)
    joined = in_windows(lambda own: np.stack([own, -own / 2]), audio, 100, 50)
    np.testing.assert_allclose(joined.sources, np.stack([audio, -audio / 2]), atol=1e-7)
    assert (joined.windows > 1) == (length > 100)


def test_long_audio_is_separated_in_windows() -> None:
    audio = sound(8_000 * 4)
    whole, record = separator(16_000).separate(audio)
    assert record == {"windows": 1}
    cut, record = separator(8_000).separate(audio)
    assert record["windows"] == 3
    assert isinstance(record["alignment"], float)
    assert whole.shape == cut.shape == (2, len(audio))
    assert not np.array_equal(whole, cut)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_recordings_have_the_length_and_follow_the_level_of_the_audio(rate: int) -> None:
    own = separator(rate)
    for length in (1, 20, 800, 8_001):
        audio = sound(length, 3)
        loud = own.separated(sample(audio, "words"))
        soft = own.separated(sample(audio / np.float32(1000), "words"))
        for name in ("first", "second"):
            assert loud.sources[name].shape == audio.shape
            assert loud.sources[name].dtype == np.float32
            np.testing.assert_allclose(
                soft.sources[name], loud.sources[name] / 1000, atol=1e-4 * np.abs(audio).max() / 1e3
            )


def test_each_voice_gets_the_level_it_has_in_the_audio() -> None:
    one, other = two_voices(10)
    for voice in (one, other):
        for gain in (0.01, -30):  # a network trained for SI-SDR has no level of its own
            found = at_its_level((gain * voice).astype(np.float32), one + other)
            loudness = np.sqrt(np.square(found).mean() / np.square(voice).mean())
            assert abs(20 * np.log10(loudness)) < 0.5
            assert found @ voice > 0


@pytest.mark.parametrize(
    ("decision", "rate", "top"),
    [("first", 8_000, 4_000), ("second", 16_000, 8_000), ("original", 8_000, 8_000)],
)
def test_the_record_says_which_band_is_real(decision: str, rate: int, top: int) -> None:
    assert separator(rate).banded({"decision": decision}) == {
        "decision": decision,
        "band": [0, top],
    }


def test_what_is_taken_from_8_khz_has_nothing_above_4_khz() -> None:
    found = separator(8_000).separated(sample(sound(RATE), "words"))
    for source in found.sources.values():
        power = np.abs(np.fft.rfft(source)) ** 2
        assert power[len(power) * 9 // 16 :].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("length", [1, 800, RATE])
def test_silence_is_kept(length: int) -> None:
    silence = np.zeros(length, np.float32)
    (output,) = separator(16_000)([sample(silence)])
    assert output.record["decision"] == "original"
    assert output.record["windows"] == 0
    assert isinstance(output.value, Waveform)
    np.testing.assert_array_equal(output.value.samples, silence)


def test_odd_audio_gives_finite_recordings() -> None:
    own = separator(16_000)
    clipped = np.clip(100 * sound(RATE), -1, 1)
    paused = np.concatenate([np.zeros(RATE, np.float32), sound(RATE)])
    faint = (sound(RATE) * 1e-20).astype(np.float32)
    for audio in (clipped, paused, sound(800), np.full(RATE, 0.5, np.float32), faint):
        found = own.separated(sample(audio, "words"))
        for source in found.sources.values():
            assert np.isfinite(source).all()
            assert np.square(source).sum() <= np.square(audio).sum() * 1.0001


def test_audio_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        separator(16_000)([sample(np.full(RATE, np.nan, np.float32))])


def test_the_record_tells_the_choice() -> None:
    speech = read_audio(SPEECH, RATE).samples[: 3 * RATE]
    (output,) = separator(16_000)([sample(speech)])
    assert set(output.record) == {"windows", "decision", "texts", "similarity", "band"}
    texts, alike = output.record["texts"], output.record["similarity"]
    assert isinstance(texts, dict)
    assert isinstance(alike, dict)
    assert set(texts) == {"noisy", "first", "second"}
    assert set(alike) == {"first", "second"}
    (again,) = separator(16_000)([sample(speech, str(texts["noisy"]))])
    assert again.record == output.record


def test_a_batch_gives_the_bits_of_its_samples() -> None:
    own = separator(8_000)
    batch = [sample(sound(length, length), "words") for length in (8_000, 3_000)]
    alone = [own([one])[0] for one in batch]
    for one, other in zip(alone, own(batch), strict=True):
        assert isinstance(one.value, Waveform)
        assert isinstance(other.value, Waveform)
        np.testing.assert_array_equal(one.value.samples, other.value.samples)
        assert one.record == other.record


class TestMossFormer2(PreprocessorTests):
    component = MossFormer2(checkpoint=str(folder(8_000)), asr=ASR, window=2, overlap=1, margin=0)
    atol = 0.0
    long = 0.05
    dtypes = ("float16",)

    @property
    def samples(self) -> list[Inputs]:
        speech = read_audio(SPEECH, RATE).samples
        return [sample(speech[: round(seconds * RATE)], "I") for seconds in (0.6, 2.2, 0.4)]
