"""Writes media files: 16-bit WAV, and H.264 with AAC in mp4."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from mercore.media import Frames, Waveform, as_int16

_TICK = Fraction(1, 90_000)  # seconds: finer than any frame rate
_QUALITY = {"crf": "18", "preset": "fast"}
_BIT_RATE = 64_000  # bits a second
_AT_ONCE = 1024  # audio samples, those of an AAC frame


def write_wav(path: Path, audio: Waveform) -> None:
    """Write 16-bit mono WAV."""
    whole = as_int16(audio.samples).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, audio.rate, 0, "NONE", ""))
        file.writeframes(whole.tobytes())


def write_mp4(path: Path, parts: Iterable[Frames], audio: Waveform | None) -> None:
    """Write the frames, of which there is at least one, each at its time, and the audio.

    The last row or column of an odd height or width is lost: H.264 halves the colours. The same
    frames give the same file on any number of cores.
    """
    parts = iter(parts)
    first = next(parts)
    with av.open(str(path), "w", format="mp4") as container:
        video = _video_track(container, first)
        sound = _Sound(container, audio) if audio is not None else None
        for part in chain([first], parts):
            _encode(container, video, part)
            if sound is not None:
                sound.encode(part.times[-1])
        container.mux(video.encode(None))
        if sound is not None:
            sound.encode()


def _video_track(container: OutputContainer, first: Frames) -> VideoStream:
    steps = np.diff(first.times)
    rate = 1.0 / float(np.median(steps)) if len(steps) else 25.0
    video = container.add_stream("libx264", Fraction(rate).limit_denominator(1001), _QUALITY)
    video.height, video.width = (side - side % 2 for side in first.pixels.shape[1:3])
    video.pix_fmt = "yuv420p"
    video.codec_context.time_base = _TICK
    video.codec_context.thread_count = 1
    return video


def _encode(container: OutputContainer, video: VideoStream, part: Frames) -> None:
    for pixels, time in zip(part.pixels, part.times, strict=True):
        whole = np.ascontiguousarray(pixels[: video.height, : video.width])
        frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
        frame.time_base, frame.pts = _TICK, round(float(time) / _TICK)
        container.mux(video.encode(frame))


class _Sound:
    """The audio track, written as far as the video is, so that players need not seek."""

    def __init__(self, container: OutputContainer, audio: Waveform) -> None:
        self._container = container
        self._audio = audio
        self._track = container.add_stream("aac", rate=audio.rate, layout="mono")
        self._track.codec_context.bit_rate = _BIT_RATE
        self._done = 0

    def encode(self, until: float | None = None) -> None:
        """Write the audio up to `until` seconds, or the rest."""
        audio, rate = self._audio.samples, self._audio.rate
        end = len(audio) if until is None else min(len(audio), int(until * rate))
        while self._done < end:
            piece = audio[self._done : self._done + _AT_ONCE]
            frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
            frame.rate, frame.time_base, frame.pts = rate, Fraction(1, rate), self._done
            self._container.mux(self._track.encode(frame))
            self._done += len(piece)
        if until is None:
            self._container.mux(self._track.encode(None))
