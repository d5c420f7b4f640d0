"""DeepFilterNet3 over a whole clip: its three ONNX networks, and the signal processing around.

The spectrum is that of a 20 ms window every 10 ms at 48 kHz. One network reads 32 ERB band levels
and 96 complex bins of each frame, two frames ahead; the second makes a gain for each band, the
third a filter of five frames for each of the 96 lowest bins (0 to 4.8 kHz), which replaces the gain
there.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np
import onnxruntime
import soxr
from numpy.typing import NDArray

from mercore.components import Inputs, Noted
from mercore.denoising import Chooser, Separated, template_of
from mercore.inputs import audio_of
from mercore.media import FloatArray, Media, Waveform
from mercore_starter._audio import RATE
from mercore_starter.speech import DEEPFILTERNET, DeepFilterNet

Array = NDArray[np.float64]
Networks = Mapping[str, onnxruntime.InferenceSession]
Spectrum = NDArray[np.complex128]

INSIDE = 48_000
HOP, FFT = 480, 960
BINS, BANDS, FILTERED = FFT // 2 + 1, 32, 96
TAPS, AHEAD = 5, 2
FADE = 0.99
"""How much of a running mean stays after a frame: about a second of memory."""
PIECE, WARM_UP = 60 * INSIDE, 2 * INSIDE
"""Samples denoised at once, which bounds memory, and how many before them set the state."""


class Denoiser:
    """The function ``DeepFilterNet.load`` returns."""

    def __init__(self, options: DeepFilterNet, device: str, dtype: str) -> None:
        self._networks = open_networks()
        lowest = 0.0 if options.limit_db is None else 10 ** (-options.limit_db / 20)
        self._kept = np.float32(lowest)
        self._workers = min(os.cpu_count() or 1, 8)
        self._choose = Chooser(options, device, dtype) if options.asr else None

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        clips = [audio_of(sample, rate=RATE) for sample in batch]
        # Each clip on one core, and as many clips as there are cores: the networks release the GIL.
        with ThreadPoolExecutor(self._workers) as pool:
            denoised = list(pool.map(self._denoise, clips))
        if self._choose is None:
            return denoised
        return self._choose(
            [
                Separated(
                    Waveform(noisy, RATE),
                    {"denoised": clean.value.samples, "residual": noisy - clean.value.samples},
                    template_of(sample),
                    clean.record,
                )
                for sample, noisy, clean in zip(batch, clips, denoised, strict=True)
            ]
        )

    def _denoise(self, samples: FloatArray) -> Noted[Waveform]:
        noisy = soxr.resample(samples, RATE, INSIDE, quality="VHQ")
        clean, ratio = in_pieces(self._networks, noisy)
        fitted = np.zeros_like(samples)
        back = soxr.resample(clean, INSIDE, RATE, quality="VHQ")[: len(samples)]
        fitted[: len(back)] = back
        mixed = fitted + self._kept * (samples - fitted)
        before, after = np.square(samples).mean() + 1e-12, np.square(mixed).mean() + 1e-12
        record = {
            "reduction_db": round(float(10 * np.log10(before / after)), 2),
            "snr_db": round(ratio, 2),
        }
        return Noted(Waveform(mixed, RATE), record)


def open_networks() -> dict[str, onnxruntime.InferenceSession]:
    """Return the networks ``enc``, ``erb_dec`` and ``df_dec`` of the packaged archive."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tarfile.open(DEEPFILTERNET.path()) as archive:
        return {
            PurePosixPath(member.name).stem: onnxruntime.InferenceSession(
                file.read(), options, providers=["CPUExecutionProvider"]
            )
            for member in archive
            if member.name.endswith(".onnx") and (file := archive.extractfile(member))
        }


def in_pieces(networks: Networks, noisy: FloatArray, size: int = PIECE) -> tuple[FloatArray, float]:
    """Return the clean audio and the mean SNR in dB; long audio is denoised piece by piece.

    A piece has `size` samples, a multiple of ``HOP``, and starts ``WARM_UP`` samples early, so that
    the state is nearly what it would be in the whole.
    """
    clean, ratios = [], []
    for start in range(0, len(noisy), size):
        first, last = max(0, start - WARM_UP), start + size + 2 * (AHEAD + 1) * HOP
        piece, snr = denoise(networks, noisy[first:last])
        clean.append(piece[start - first :][:size])
        ratios.append(snr[(start - first) // HOP :][: size // HOP])
    return np.concatenate(clean), float(np.concatenate(ratios).mean())


def denoise(networks: Networks, noisy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the clean audio, as long as the noisy, and the SNR of each frame in dB."""
    spectrum = analyse(noisy)  # (frames, bins)
    gains, filters, ratio = run(networks, *features(spectrum))
    clean = spectrum * np.repeat(gains, band_widths(), axis=1)
    around = np.pad(spectrum[:, :FILTERED], ((TAPS - 1 - AHEAD, AHEAD), (0, 0)))
    taps = np.lib.stride_tricks.sliding_window_view(around, TAPS, axis=0)  # (frames, 96, taps)
    clean[:, :FILTERED] = (filters * taps).sum(axis=2)
    return synthesise(clean, len(noisy)), ratio


def run(
    networks: Networks, levels: FloatArray, bins: FloatArray
) -> tuple[FloatArray, NDArray[np.complex64], FloatArray]:
    """Return gains ``(frames, 32)``, filters ``(frames, 96, 5)`` and the SNR ``(frames,)``."""
    names = ("e0", "e1", "e2", "e3", "emb", "c0", "lsnr")
    seen = dict(
        zip(names, networks["enc"].run(names, {"feat_erb": levels, "feat_spec": bins}), strict=True)
    )
    (gains,) = networks["erb_dec"].run(["m"], {name: seen[name] for name in names[:5]})
    (filters,) = networks["df_dec"].run(["coefs"], {name: seen[name] for name in names[4:6]})
    pairs = filters.reshape(-1, FILTERED, TAPS, 2)
    return gains.reshape(-1, BANDS), pairs[..., 0] + 1j * pairs[..., 1], seen["lsnr"].reshape(-1)


def analyse(samples: FloatArray) -> Spectrum:
    """Return the spectra ``(frames, bins)`` of windows that overlap by half."""
    frames = -(-len(samples) // HOP) + 1
    padded = np.pad(samples.astype(np.float64), (HOP, frames * HOP - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    return np.asarray(np.fft.rfft(windows * window(), axis=1) / FFT, np.complex128)


def synthesise(spectrum: Spectrum, length: int) -> FloatArray:
    """Return the first `length` samples whose spectra these are, by overlap and add."""
    windows = np.fft.irfft(spectrum * FFT, axis=1) * window()
    samples = np.zeros((len(windows) + 1, HOP))
    samples[:-1] += windows[:, :HOP]
    samples[1:] += windows[:, HOP:]
    return samples.reshape(-1)[HOP : HOP + length].astype(np.float32)


def window() -> Array:
    """Return the Vorbis window: applied before and after, it sums to one over the overlap."""
    half = np.sin(np.pi * (np.arange(FFT) + 0.5) / FFT)
    return np.sin(np.pi / 2 * half**2)


def features(spectrum: Spectrum) -> tuple[FloatArray, FloatArray]:
    """Return band levels ``(1, 1, frames, 32)`` and bins ``(1, 2, frames, 96)``, normalised.

    The levels are in dB, less their running mean, over 40; the bins are divided by the root of the
    running mean of their magnitude. The means start where the authors start them.
    """
    widths = band_widths()
    power = np.add.reduceat(np.abs(spectrum) ** 2, np.cumsum([0, *widths[:-1]]), axis=1) / widths
    levels = 10 * np.log10(power + 1e-10)
    levels = (levels - running_mean(levels, np.linspace(-60, -90, BANDS))) / 40
    bins = spectrum[:, :FILTERED]
    bins = bins / np.sqrt(running_mean(np.abs(bins), np.linspace(1e-3, 1e-4, FILTERED)))
    parts = np.stack([bins.real, bins.imag])
    return earlier(levels[np.newaxis])[np.newaxis], earlier(parts)[np.newaxis]


def earlier(values: Array) -> FloatArray:
    """Return the values ``(parts, frames, width)`` two frames early: what a network sees."""
    return np.pad(values[:, AHEAD:], ((0, 0), (0, AHEAD), (0, 0))).astype(np.float32)


def running_mean(values: Array, state: Array) -> Array:
    """Return the exponential mean at each frame, from `state` on: ``(frames, width)``."""
    means = np.empty_like(values)
    for frame, row in enumerate(values):
        state = FADE * state + (1 - FADE) * row
        means[frame] = state
    return means


def band_widths() -> list[int]:
    """Return how many bins each band has: equal on the ERB scale, but at least two."""
    per_erb = 24.7 * 9.265
    top = 9.265 * np.log1p(INSIDE / 2 / per_erb)
    edges = per_erb * np.expm1(top * np.arange(1, BANDS + 1) / BANDS / 9.265)
    widths: list[int] = []
    before = owed = 0
    for edge in np.round(edges / (INSIDE / FFT)).astype(int).tolist():
        width = edge - before - owed
        owed, before = max(0, 2 - width), edge
        widths.append(max(2, width))
    return [*widths[:-1], BINS - sum(widths[:-1])]
