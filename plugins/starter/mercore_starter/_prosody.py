"""The signal processing of ``prosody``: numpy, vectorised over the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mercore.components import Inputs
from mercore.inputs import audio_of
from mercore.media import FloatArray
from mercore_starter._audio import RATE
from mercore_starter.prosody import FRAME_FEATURES, Prosody

Array = NDArray[np.float64]

HOP, WIDTH, FFT = 160, 400, 512  # samples: 10 ms, 25 ms, 32 ms
BANDS, COEFFICIENTS = 40, 13
THRESHOLD = 0.15
"""Of YIN: the aperiodic share of the power in a voiced frame, at most."""
SILENCE = 1e-6
"""Mean square below which nothing is voiced: 60 dB below full scale."""


class ProsodyEncoder:
    """The function ``Prosody.load`` returns."""

    def __init__(self, options: Prosody) -> None:
        self._options = options
        self._bank = mel_bank()
        self._dct = dct()

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray]:
        return [self._encode(audio_of(sample, rate=RATE)) for sample in batch]

    def _encode(self, samples: FloatArray) -> FloatArray:
        columns = self._columns(samples.astype(np.float64))  # (frames, features)
        frames = np.concatenate([columns, slopes(columns)], axis=1)
        if self._options.pool == "none":
            return frames.astype(np.float32)
        return statistics(frames).astype(np.float32)

    def _columns(self, samples: Array) -> Array:
        """Return ``(frames, features)`` in the order of ``FRAME_FEATURES``."""
        windows = framed(samples, WIDTH)
        hann = np.hanning(WIDTH + 1)[:-1]
        power = np.abs(np.fft.rfft(windows * hann, FFT)) ** 2  # (frames, bins)
        energy = np.mean(windows**2, axis=1)
        pitch = yin(samples, self._options.f0_min, self._options.f0_max)
        pitch[energy < SILENCE] = 0
        crossings = np.mean(np.diff(np.signbit(windows), axis=1), axis=1)
        mfcc = np.log(power @ self._bank + 1e-6) @ self._dct
        shape = np.stack([np.log(energy + 1e-10), log_pitch(pitch), pitch > 0], axis=1)
        return np.concatenate([shape, spectral(power), crossings[:, np.newaxis], mfcc], axis=1)


def framed(samples: Array, width: int) -> Array:
    """Return ``(frames, width)``: frame t is centred at (t + 0.5) hops, silence around."""
    frames = -(-len(samples) // HOP)
    before = width // 2 - HOP // 2
    after = max(0, (frames - 1) * HOP + width - before - len(samples))
    padded = np.pad(samples, (before, after))
    return np.lib.stride_tricks.sliding_window_view(padded, width)[::HOP][:frames]


def spectral(power: Array) -> Array:
    """Return centroid, bandwidth and rolloff in kHz, and flux: ``(frames, 4)``; 0 in silence."""
    khz = np.fft.rfftfreq(FFT, 1000 / RATE)
    total = power.sum(axis=1, keepdims=True)
    share = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    centroid = share @ khz
    bandwidth = np.sqrt(np.maximum(share @ khz**2 - centroid**2, 0))
    rolloff = khz[np.argmax(np.cumsum(power, axis=1) >= 0.85 * total, axis=1)]
    magnitude = np.sqrt(power)
    scale = magnitude.sum(axis=1, keepdims=True)
    magnitude = np.divide(magnitude, scale, out=np.zeros_like(power), where=scale > 0)
    flux = np.linalg.norm(np.diff(magnitude, axis=0, prepend=magnitude[:1]), axis=1)
    return np.stack([centroid, bandwidth, rolloff, flux], axis=1)


def yin(samples: Array, lowest: float, highest: float) -> Array:
    """Return the pitch of each frame in Hz; 0 where it is not voiced."""
    longest, shortest = int(RATE / lowest) + 1, max(2, int(RATE / highest))
    width = 2 * longest
    windows = framed(samples, width)
    aperiodic = cumulative(difference(windows, longest))  # (frames, lags)
    middle = aperiodic[:, 1:-1]
    dips = (middle < THRESHOLD) & (middle <= aperiodic[:, :-2]) & (middle < aperiodic[:, 2:])
    dips[:, : shortest - 1] = False
    lag = 1 + dips.argmax(axis=1)
    exact = lag + vertex(aperiodic, lag)
    return np.where(dips.any(axis=1), RATE / exact, 0.0)


def difference(windows: Array, longest: int) -> Array:
    """Return YIN's d(lag) for lags 0 to `longest`: ``(frames, longest + 1)``.

    The sum of (x[j] - x[j + lag])^2 over the first half of the window is the power of that half,
    plus the power of the half that starts at the lag, less twice their product.
    """
    size = 1 << int(np.ceil(np.log2(windows.shape[1] * 1.5)))
    half = windows[:, :longest]
    spectrum = np.conj(np.fft.rfft(half, size)) * np.fft.rfft(windows, size)
    products = np.fft.irfft(spectrum, size)[:, : longest + 1]
    sums = np.pad(np.cumsum(windows**2, axis=1), ((0, 0), (1, 0)))
    power = sums[:, longest : 2 * longest + 1] - sums[:, : longest + 1]
    return np.maximum(power[:, :1] + power - 2 * products, 0)


def cumulative(distance: Array) -> Array:
    """Return YIN's d'(lag): d(lag) over the mean of d at the lags up to it; 1 at lag 0."""
    lags = np.arange(1, distance.shape[1])
    total = np.cumsum(distance[:, 1:], axis=1)
    result = np.ones_like(distance)
    np.divide(distance[:, 1:] * lags, total, out=result[:, 1:], where=total > 0)
    return result


def vertex(values: Array, at: NDArray[np.int64]) -> Array:
    """Return where, within half a step of `at`, the parabola through three values is lowest."""
    rows = np.arange(len(values))
    left, here, right = (values[rows, at + step] for step in (-1, 0, 1))
    curve = left - 2 * here + right
    shift = np.divide((left - right) / 2, curve, out=np.zeros_like(here), where=curve > 0)
    return np.clip(shift, -0.5, 0.5)


def log_pitch(pitch: Array) -> Array:
    """Return the log of the pitch, interpolated where it is 0; all 0 where it always is."""
    voiced = np.flatnonzero(pitch)
    if not len(voiced):
        return np.zeros_like(pitch)
    return np.interp(np.arange(len(pitch)), voiced, np.log(pitch[voiced]))


def slopes(columns: Array) -> Array:
    """Return the slope of each column over five frames, a frame; the ends are repeated."""
    padded = np.pad(columns, ((2, 2), (0, 0)), mode="edge")
    near, far = padded[3:-1] - padded[1:-3], padded[4:] - padded[:-4]
    return (near + 2 * far) / 10


def statistics(frames: Array) -> Array:
    """Return mean, std and three percentiles of each column, in blocks: ``(1, 5 * columns)``."""
    pooled = _pooled(frames)
    features = FRAME_FEATURES
    pitch = [features.index("log_f0"), features.index("log_f0") + len(features)]
    voiced = frames[frames[:, features.index("voiced")] > 0][:, pitch]
    pooled[:, pitch] = _pooled(voiced) if len(voiced) else 0
    return pooled.reshape(1, -1)


def _pooled(frames: Array) -> Array:
    percentiles = np.percentile(frames, [10, 50, 90], axis=0)
    return np.concatenate([[frames.mean(axis=0), frames.std(axis=0)], percentiles])


def mel_bank() -> Array:
    """Return triangles on HTK's mel scale, 1 at their peaks: ``(bins, bands)``."""
    edges = 700 * (
        10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2) / 2595) - 1
    )
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)[:, np.newaxis]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def dct() -> Array:
    """Return the first coefficients of the orthonormal DCT-II: ``(bands, coefficients)``."""
    angle = np.pi / BANDS * (np.arange(BANDS)[:, np.newaxis] + 0.5) * np.arange(COEFFICIENTS)
    scale = np.where(np.arange(COEFFICIENTS) == 0, np.sqrt(1 / BANDS), np.sqrt(2 / BANDS))
    return np.asarray(np.cos(angle) * scale, np.float64)
