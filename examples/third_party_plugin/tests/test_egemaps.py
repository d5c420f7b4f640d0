from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import opensmile
import pytest
from mercore import InputError, Waveform
from mercore.media import FloatArray
from mercore.testing import EncoderTests
from opensmile import FeatureLevel, FeatureSet, Smile

from mercore_egemaps import RATE, EgemapsEncoder
from mercore_egemaps._model import Model

BANDWIDTH = 80  # Hz, of a formant


class TestFunctionals(EncoderTests):
    component = EgemapsEncoder(window=0.5)
    long = 0.1  # of a minute


class TestDescriptors(EncoderTests):
    component = EgemapsEncoder(level="descriptors")
    long = 0.1


def vowel(
    pitch: float,
    *,
    formants: Sequence[float] = (500, 1500, 2500),
    seconds: float = 1,
    uneven: float = 0,
) -> FloatArray:
    """Return a vowel by its pitch and formants in Hz.

    Its periods are longer and shorter in turns, `uneven` of a period apart.
    """
    periods = np.full(int(seconds * pitch) + 2, 1 / pitch)
    periods[::2] *= 1 + uneven / 2
    periods[1::2] *= 1 - uneven / 2
    marks = np.concatenate([[0], periods.cumsum()])  # seconds at which a period begins
    cycles = np.interp(np.arange(round(seconds * RATE)) / RATE, marks, np.arange(len(marks)))
    orders = np.arange(1, int(7_000 / pitch))[:, None]
    sound = np.sin(2 * np.pi * orders * cycles) / orders  # (harmonics, samples)
    for formant in formants:
        heard = orders * pitch  # Hz
        sound *= formant**2 / np.hypot(heard**2 - formant**2, BANDWIDTH * heard)
    voice: FloatArray = sound.sum(axis=0).astype(np.float32)
    voice *= 0.3 / np.abs(voice).max()
    return voice


def rows(samples: FloatArray, component: EgemapsEncoder) -> FloatArray:
    """Return what the encoder makes of the samples."""
    (matrix,) = Model(component)([{"audio": Waveform(samples, RATE)}])
    return matrix


def named(samples: FloatArray) -> dict[str, float]:
    """Return the functionals of the samples by their names."""
    names = Smile(FeatureSet.eGeMAPSv02).feature_names
    return dict(zip(names, rows(samples, EgemapsEncoder())[0].tolist(), strict=True))


def test_functionals_are_those_of_opensmile() -> None:
    smile = Smile(FeatureSet.eGeMAPSv02, FeatureLevel.Functionals)
    expected = smile.process_signal(vowel(220), RATE)
    np.testing.assert_array_equal(rows(vowel(220), EgemapsEncoder()), expected)


def test_descriptors_are_those_of_opensmile() -> None:
    smile = Smile(FeatureSet.eGeMAPSv02, FeatureLevel.LowLevelDescriptors)
    expected = smile.process_signal(vowel(220), RATE)
    found = rows(vowel(220), EgemapsEncoder(level="descriptors"))
    np.testing.assert_array_equal(found, expected)


def test_a_window_is_as_if_it_were_the_clip() -> None:
    low, high = vowel(110, seconds=0.5), vowel(220, seconds=0.7)
    found = rows(np.concatenate([low, high]), EgemapsEncoder(window=0.5))
    expected = [rows(part, EgemapsEncoder()) for part in (low, high)]
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_a_window_longer_than_the_clip_is_the_clip() -> None:
    found = rows(vowel(110), EgemapsEncoder(window=60))
    np.testing.assert_array_equal(found, rows(vowel(110), EgemapsEncoder()))


def test_descriptors_have_no_window() -> None:
    with pytest.raises(ValueError, match="window is for functionals"):
        EgemapsEncoder(level="descriptors", window=1)


@pytest.mark.parametrize(
    "component", [EgemapsEncoder(level="descriptors"), EgemapsEncoder(window=0.2)]
)
def test_there_are_as_many_rows_a_second_as_declared(component: EgemapsEncoder) -> None:
    longer, shorter = (rows(vowel(220, seconds=n), component) for n in (3, 1))
    assert (len(longer) - len(shorter)) / 2 == pytest.approx(component.frame_rate)


@pytest.mark.parametrize("pitch", [110, 220])
def test_the_pitch_is_in_semitones_above_27_5_hz(pitch: int) -> None:
    found = named(vowel(pitch))["F0semitoneFrom27.5Hz_sma3nz_amean"]
    assert found == pytest.approx(12 * np.log2(pitch / 27.5), abs=0.2)


def test_the_second_formant_of_i_is_above_that_of_a() -> None:
    second = "F2frequency_sma3nz_amean"
    i, a = vowel(100, formants=(300, 2200, 3000)), vowel(100, formants=(700, 1200, 2600))
    assert named(i)[second] > named(a)[second] + 400


def test_a_voice_of_uneven_periods_has_more_jitter() -> None:
    jitter = "jitterLocal_sma3nz_amean"
    assert named(vowel(120))[jitter] == pytest.approx(0, abs=1e-4)
    assert named(vowel(120, uneven=0.05))[jitter] > 0.02


def test_noise_lowers_the_ratio_of_harmonics_to_noise() -> None:
    ratio = "HNRdBACF_sma3nz_amean"
    noise = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)
    assert named(vowel(120) + noise)[ratio] < named(vowel(120))[ratio] - 5


def test_half_the_amplitude_is_6_db_less() -> None:
    level = "equivalentSoundLevel_dBp"
    quiet = np.float32(0.5) * vowel(120)
    fall = named(vowel(120))[level] - named(quiet)[level]
    assert fall == pytest.approx(20 * np.log10(2), abs=0.1)


def test_the_shortest_audio_is_60_ms() -> None:
    assert np.isfinite(rows(vowel(220, seconds=0.06), EgemapsEncoder())).all()
    with pytest.raises(InputError, match=r"800 samples, expected 960 or more \(60 ms\)"):
        rows(vowel(220, seconds=0.05), EgemapsEncoder())


def test_silence_is_finite() -> None:
    assert np.isfinite(rows(np.zeros(RATE, np.float32), EgemapsEncoder())).all()


def test_another_release_of_opensmile_is_another_feature() -> None:
    assert EgemapsEncoder().identity() == {"opensmile": opensmile.__version__}
