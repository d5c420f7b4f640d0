"""Emotional speech from espeak-ng, and the noise it may be mixed with.

Prosody follows the vocal correlates of K. Scherer (2003), "Vocal communication of emotion",
Speech Communication 40, table 2, and P. Juslin, P. Laukka (2003), Psychological Bulletin 129:
mean and range of F0, rate, intensity and energy at high frequencies, against neutral speech.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soxr
from numpy.random import Generator
from people import Voice

from mercore.media import FloatArray

RATE = 16_000  # Hz, of the clips
ESPEAK_RATE = 22_050  # Hz, of espeak-ng
LONGEST = 2.15  # seconds of speech in a clip
LEVEL = 0.06  # RMS of neutral speech


@dataclass(frozen=True)
class Prosody:
    """Change of a voice at full intensity."""

    pitch: float  # espeak-ng steps (0 to 99)
    range: float  # espeak-ng steps
    rate: float  # factor
    gain: float  # dB
    tilt: float  # dB an octave above 500 Hz: tense or lax voice
    tremor: float = 0.0  # depth of a 6-Hz modulation of loudness


PROSODY: Mapping[str, Prosody] = MappingProxyType({
    "neutral": Prosody(0, 0, 1.0, 0, 0.0),
    "angry": Prosody(10, 26, 1.15, 6, 3.0),
    "happy": Prosody(22, 30, 1.10, 3, 1.0),
    "sad": Prosody(-16, -30, 0.76, -7, -3.0),
    "worried": Prosody(14, -12, 1.16, -3, -0.5, 0.35),
    "surprise": Prosody(34, 42, 1.04, 3, 0.5),
})  # fmt: skip
# How a sentence ends is part of its melody; "?" rises in espeak-ng.
ENDINGS: Mapping[str, str] = MappingProxyType({
    "neutral": "..", "angry": "!!", "happy": "!!", "sad": "..", "worried": "?.", "surprise": "?!",
})  # fmt: skip


def say(sentence: str, voice: Voice, label: str, intensity: float, rng: Generator) -> FloatArray:
    """Return the sentence spoken with an emotion, float32 at 16 kHz, at most `LONGEST` seconds."""
    prosody = PROSODY[label]
    strength = intensity * rng.uniform(0.75, 1.15, 4)
    ending = ENDINGS[label][int(rng.integers(2))]
    text = sentence.rstrip(".!?") + ending
    rate = voice.rate * prosody.rate ** strength[0] * rng.uniform(0.95, 1.05)
    pitch = voice.pitch + prosody.pitch * strength[1] + rng.normal(0, 2)
    spread = voice.range + prosody.range * strength[2] + rng.normal(0, 3)
    wave = _spoken(text, voice, rate, pitch, spread)
    if len(wave) > LONGEST * RATE:
        wave = _spoken(text, voice, 1.05 * rate * len(wave) / (LONGEST * RATE), pitch, spread)
    wave = _tilted(wave, prosody.tilt * strength[3])
    tremor = prosody.tremor * intensity * np.sin(2 * np.pi * 6 * np.arange(len(wave)) / RATE)
    wave = wave * (1 + tremor).astype(np.float32)
    gain = voice.gain + prosody.gain * strength[3] + rng.normal(0, 1.0)
    return _at_level(wave, LEVEL * 10 ** (gain / 20))[: int(LONGEST * RATE)]


def _spoken(text: str, voice: Voice, rate: float, pitch: float, spread: float) -> FloatArray:
    """Return what espeak-ng says, without silence around it, float32 at 16 kHz."""
    request = {
        "text": text,
        "voice": voice.name,
        "rate": round(rate * voice.formants),
        "pitch": int(np.clip(pitch, 0, 99)),
        "range": int(np.clip(spread, 0, 99)),
    }
    command = [sys.executable, str(Path(__file__).with_name("espeak.py")), json.dumps(request)]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(spoken, np.int16).astype(np.float32) / 32768
    # Played at another speed, all resonances move: a longer or shorter vocal tract.
    wave: FloatArray = soxr.resample(samples, ESPEAK_RATE * voice.formants, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01)
    return wave[loud[0] : loud[-1] + 1]


def _tilted(wave: FloatArray, slope: float) -> FloatArray:
    """Return the wave with `slope` dB an octave added above 500 Hz."""
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(wave), 1 / RATE), 500.0) / 500.0)
    tilted = np.fft.irfft(spectrum * 10 ** (slope * octaves / 20), len(wave))
    return tilted.astype(np.float32)


def _at_level(wave: FloatArray, level: float) -> FloatArray:
    """Return the wave with an RMS of `level`, or as loud as fits without clipping."""
    rms, peak = np.sqrt(np.mean(wave**2)), np.max(np.abs(wave))
    scaled: FloatArray = (wave * min(level / rms, 0.98 / peak)).astype(np.float32)
    return scaled


def babble(voices: Sequence[tuple[str, Voice]], samples: int, rng: Generator) -> FloatArray:
    """Return `samples` of several voices that speak neutrally at once, each its sentence."""
    mixed = np.zeros(samples, np.float32)
    for sentence, voice in voices:
        wave = say(sentence, voice, "neutral", 0.0, rng)
        repeated = np.tile(wave, 2 + samples // len(wave))
        start = int(rng.integers(len(wave)))
        mixed += repeated[start : start + samples]
    return mixed


def coloured_noise(samples: int, slope: float, rng: Generator) -> FloatArray:
    """Return noise whose power falls by `slope` dB an octave: 0 is white, 3 pink, 6 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50.0) / 50.0)
    noise = np.fft.irfft(spectrum * 10 ** (-slope * octaves / 20), samples)
    return noise.astype(np.float32)


def mixed_at(speech: FloatArray, noise: FloatArray, snr: float) -> FloatArray:
    """Return speech plus noise at `snr` dB over the whole clip, as MER2024-NOISE mixes them."""
    gain = np.sqrt(np.mean(speech**2) / np.mean(noise**2)) / 10 ** (snr / 20)
    noisy = speech + gain * noise
    scaled: FloatArray = (noisy / max(1.0, float(np.max(np.abs(noisy))))).astype(np.float32)
    return scaled


def loudness(wave: FloatArray, frames: int) -> FloatArray:
    """Return the loudness of each of `frames` equal parts, 0 to 1 for the loudest."""
    parts = np.array_split(wave, frames)
    rms = np.array([np.sqrt(np.mean(part**2)) for part in parts], np.float32)
    loud: FloatArray = (rms / max(float(rms.max()), 1e-6)) ** 0.6
    return loud
