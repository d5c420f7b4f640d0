from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray
from pydantic import ValidationError

from mercore import InputError, Inputs, Waveform
from mercore.testing import EncoderTests
from mercore_starter.prosody import FRAME_FEATURES, STATISTICS, Prosody

RATE = 16_000
SECOND = np.arange(RATE) / RATE


def clip(samples: NDArray[np.floating]) -> Inputs:
    return {"audio": Waveform(samples.astype(np.float32), RATE)}


def frames(samples: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    """The columns of the frames by name, without the first and last five frames."""
    (matrix,) = Prosody(pool="none").load("cpu", "float32")([clip(samples)])
    assert isinstance(matrix, np.ndarray)
    return dict(zip(FRAME_FEATURES, matrix[5:-5].T, strict=False))


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * level


def voice(hertz: float) -> NDArray[np.float64]:
    """A second of a buzz with all harmonics below 7 kHz."""
    partials = np.arange(1, int(7000 / hertz))[:, np.newaxis]
    return np.asarray(0.1 * (np.sin(2 * np.pi * hertz * partials * SECOND) / partials).sum(axis=0))


@pytest.mark.parametrize("hertz", [70.0, 120.5, 220.0, 450.0])
def test_the_pitch_of_a_tone_and_of_a_buzz_is_found(hertz: float) -> None:
    for samples in (0.3 * np.sin(2 * np.pi * hertz * SECOND), voice(hertz)):
        heard = frames(samples)
        assert heard["voiced"].all()
        np.testing.assert_allclose(np.exp(heard["log_f0"]), hertz, rtol=0.005)


def test_a_glide_is_followed() -> None:
    hertz = 110 * 2.0**SECOND
    heard = frames(0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE))
    centres = np.arange(5, 95) * 0.01 + 0.005
    np.testing.assert_allclose(np.exp(heard["log_f0"]), 110 * 2.0**centres, rtol=0.02)


def test_noise_and_silence_are_not_voiced() -> None:
    assert frames(noise(1))["voiced"].mean() < 0.02
    silent = frames(np.zeros(RATE))
    assert not silent["voiced"].any()
    assert not silent["centroid"].any()
    np.testing.assert_allclose(silent["log_energy"], np.log(1e-10), rtol=1e-6)


def test_the_pitch_is_interpolated_over_unvoiced_frames() -> None:
    gap = np.concatenate([voice(100), noise(0.3, 0.02), voice(200)])
    heard = frames(gap)
    middle = heard["log_f0"][105:115]
    assert not heard["voiced"][105:115].any()
    assert np.all(
        (np.log(101) < middle) & (middle < np.log(199)) & np.append(np.diff(middle) > 0, 1)
    )


def test_the_spectrum_of_a_tone_lies_at_the_tone() -> None:
    heard = frames(np.sin(2 * np.pi * 2000 * SECOND))
    np.testing.assert_allclose(heard["centroid"], 2.0, rtol=0.01)
    np.testing.assert_allclose(heard["rolloff"], 2.0, atol=0.04)
    assert heard["bandwidth"].max() < 0.2
    assert heard["flux"].max() < 0.01
    np.testing.assert_allclose(heard["zero_crossings"], 0.25, atol=0.005)
    np.testing.assert_allclose(heard["log_energy"], np.log(0.5), atol=0.01)


def test_white_noise_is_wide_and_changes() -> None:
    heard = frames(noise(1))
    np.testing.assert_allclose(heard["centroid"].mean(), 4.0, atol=0.1)
    np.testing.assert_allclose(heard["bandwidth"].mean(), 8 / np.sqrt(12), atol=0.1)
    np.testing.assert_allclose(heard["rolloff"].mean(), 0.85 * 8, atol=0.1)
    assert heard["flux"].min() > 0.01


def test_the_mfcc_are_those_of_torchaudio() -> None:
    samples = noise(0.5) + 0.2 * np.sin(2 * np.pi * 300 * SECOND[: RATE // 2])
    transform = torchaudio.transforms.MFCC(
        RATE,
        n_mfcc=13,
        log_mels=True,
        melkwargs={
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "n_mels": 40,
            "center": False,
        },
    )
    # torchaudio centres the window of 400 in 512 samples, so frame t starts 56 samples earlier.
    padded = torch.from_numpy(np.pad(samples, (120 + 56, 400))).float()
    expected = transform(padded).T[:50].numpy()
    (matrix,) = Prosody(pool="none").load("cpu", "float32")([clip(samples)])
    assert isinstance(matrix, np.ndarray)
    np.testing.assert_allclose(matrix[:, 8:21], expected, atol=2e-3)


def test_deltas_are_slopes_a_frame() -> None:
    (matrix,) = Prosody(pool="none").load("cpu", "float32")([clip(noise(1) * np.exp(SECOND))])
    assert isinstance(matrix, np.ndarray)
    energy, slope = matrix[:, 0], matrix[:, len(FRAME_FEATURES)]
    fitted = [np.polyfit(range(-2, 3), energy[at - 2 : at + 3], 1)[0] for at in range(2, 98)]
    np.testing.assert_allclose(slope[2:98], fitted, atol=1e-5)


@pytest.mark.parametrize("pool", ["statistics", "none"])
def test_the_shape_is_what_is_declared(pool: str) -> None:
    prosody = Prosody.model_validate({"pool": pool})
    encode = prosody.load("cpu", "float32")
    for samples in (1, 160, 161, 5000):
        (matrix,) = encode([clip(noise(1)[:samples])])
        assert isinstance(matrix, np.ndarray)
        rows = 1 if pool == "statistics" else -(-samples // 160)
        assert matrix.shape == (rows, prosody.dim)
        assert matrix.dtype == np.float32
        assert np.isfinite(matrix).all()


def test_the_statistics_are_those_of_the_frames() -> None:
    samples = np.concatenate([voice(150), noise(0.5), voice(250)])
    (row,) = Prosody().load("cpu", "float32")([clip(samples)])
    (matrix,) = Prosody(pool="none").load("cpu", "float32")([clip(samples)])
    assert isinstance(row, np.ndarray)
    assert isinstance(matrix, np.ndarray)
    mean, std, low, median, high = row.reshape(len(STATISTICS), -1)
    np.testing.assert_allclose(mean[0], matrix[:, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(std[10], matrix[:, 10].std(), rtol=1e-4)
    np.testing.assert_allclose(median[3], np.median(matrix[:, 3]), rtol=1e-4)
    voiced = matrix[matrix[:, 2] > 0][:, 1]
    assert len(voiced) < len(matrix)
    np.testing.assert_allclose([low[1], high[1]], np.percentile(voiced, [10, 90]), rtol=1e-5)
    np.testing.assert_allclose(np.exp([low[1], high[1]]), [150, 250], rtol=0.02)


def test_audio_that_cannot_be_used_is_refused() -> None:
    encode = Prosody().load("cpu", "float32")
    with pytest.raises(InputError, match="has 0 samples, expected 1 or more"):
        encode([clip(np.zeros(0))])
    with pytest.raises(InputError, match="samples that are not finite"):
        encode([clip(np.array([0.0, np.nan]))])
    with pytest.raises(InputError, match="expected audio at 16000 Hz"):
        encode([{"audio": Waveform(np.zeros(10, np.float32), 8000)}])


def test_a_pitch_range_without_pitch_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"f0_min 300.0 is not below f0_max 200.0"):
        Prosody(f0_min=300, f0_max=200)


class TestStatistics(EncoderTests):
    component = Prosody(f0_min=80)
    atol = 0.0


class TestFrames(EncoderTests):
    component = Prosody(pool="none", f0_max=400)
    atol = 0.0
