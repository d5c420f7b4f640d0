"""Writes small folders of noise, voices and impulse responses, and makes samples."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mercore.components import Inputs
from mercore.media import FloatArray, Text, Waveform

RATE = 16_000


def write_wav(path: Path, samples: NDArray[np.floating], rate: int = RATE) -> Path:
    """Write ``(samples,)`` or ``(samples, channels)`` in [-1, 1] as 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if whole.ndim == 1 else whole.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(whole.tobytes())
    return path


def hiss(seconds: float, seed: int, level: float = 0.1) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * noise).astype(np.float32)


def response(seconds: float, seed: int, delay: int = 40) -> FloatArray:
    """Return a direct path after `delay` samples and a tail that fades."""
    taps = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    taps *= 0.2 * np.exp(-6.9 * np.arange(len(taps)) / len(taps))
    taps[:delay] = 0
    taps[delay] = 0.9
    return taps.astype(np.float32)


def write_noise(folder: Path) -> Path:
    """Write a tree as MUSAN's: short and long files, one silent, a licence beside them."""
    for seed, seconds in enumerate((0.7, 3.0, 0.4)):
        write_wav(folder / f"free-sound/noise-{seed}.wav", hiss(seconds, seed))
    write_wav(folder / "sound-bible/noise-8.WAV", hiss(1.0, 8, 0.01), rate=8_000)
    write_wav(folder / "sound-bible/silence.wav", np.zeros(8_000))
    write_wav(folder / ".cache/old.wav", hiss(0.5, 9))
    (folder / "LICENSE.txt").write_text("CC-BY-4.0")
    return folder


def write_voices(folder: Path) -> Path:
    for seed in range(2):
        times = np.arange(2 * RATE) / RATE
        tone = np.sin(2 * np.pi * 150 * (seed + 1) * times) * np.sin(2 * np.pi * 3 * times)
        write_wav(folder / f"speaker-{seed}.wav", 0.3 * tone)
    return folder


def write_rooms(folder: Path) -> Path:
    for seed in range(2):
        pair = np.stack([response(0.2, seed), -response(0.2, seed + 7, delay=90)], axis=1)
        write_wav(folder / f"room-{seed}.wav", pair)
    return folder


def clip(identifier: str, seconds: float = 1.0, level: float = 0.2) -> Inputs:
    times = np.arange(round(seconds * RATE)) / RATE
    samples = (level * np.sin(2 * np.pi * 220 * times)).astype(np.float32)
    return {"audio": Waveform(samples, RATE), "id": Text(identifier)}
