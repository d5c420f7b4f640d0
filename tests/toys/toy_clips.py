"""Writes small clips with known content."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Colours = Sequence[tuple[int, int, int]]


def write_wav(
    path: Path, seconds: float = 0.5, *, tone: float = 440.0, rate: int = 16_000, gain: float = 0.5
) -> Path:
    """Write a sine as 16-bit mono WAV."""
    times = np.arange(int(seconds * rate)) / rate
    samples = (gain * 32767 * np.sin(2 * np.pi * tone * times)).astype(np.int16)
    return write_samples(path, samples[None], rate)


def write_samples(path: Path, samples: NDArray[np.int16], rate: int) -> Path:
    """Write ``(channels, samples)`` int16 as WAV."""
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        if samples.size:
            packed = samples.T.reshape(1, -1).copy()
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            frame.rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_mp4(path: Path, colours: Colours, *, rate: int = 10, tone: float | None = None) -> Path:
    """Write one plain 64 x 48 frame a colour as H.264, with a sine of equal length when asked."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if tone else None
        for colour in colours:
            picture = np.full((48, 64, 3), colour, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio and tone:
            times = np.arange(16_000 * len(colours) // rate) / 16_000
            wave = (0.5 * np.sin(2 * np.pi * tone * times)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path
