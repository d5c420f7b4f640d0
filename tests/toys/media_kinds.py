"""One short clip in the containers and codecs that people have."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from mercore.media import FloatArray, Frames, Waveform

SOUNDS = {
    "wav": "pcm_s16le", "mp3": "libmp3lame", "ogg": "flac", "opus": "libopus", "flac": "flac",
    "m4a": "aac",
}  # fmt: skip
VIDEOS = {
    "mp4": ("libx264", "aac"), "mkv": ("libx264", "flac"), "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "libmp3lame"),
}  # fmt: skip
_RATE = 48_000  # Hz: all of these codecs can
_FPS = 10


def write_kinds(folder: Path, frames: Frames, audio: Waveform) -> list[Path]:
    """Write the clip once in each kind; return the files."""
    found = []
    for suffix, codec in SOUNDS.items():
        found.append(folder / f"clip.{suffix}")
        with av.open(str(found[-1]), "w") as container:
            _write_audio(container, _sound(container, codec), audio)
    for suffix, (video, sound) in VIDEOS.items():
        found.append(folder / f"clip.{suffix}")
        with av.open(str(found[-1]), "w") as container:
            _write_both(container, video, sound, frames, audio)
    return found


def toy_clip(seconds: float = 1.5) -> tuple[Frames, Waveform]:
    """Return moving colours and a tone."""
    count = int(seconds * _FPS)
    ramp = np.arange(64, dtype=np.uint8)
    pixels = np.stack([np.add.outer(ramp[:48] * 3, ramp * 2 + 9 * n) for n in range(count)])
    shown = np.repeat(pixels[..., None], 3, axis=3)
    tone = np.sin(np.arange(int(seconds * _RATE)) * 2 * np.pi * 330 / _RATE) / 2
    return Frames(shown, np.arange(count) / _FPS), Waveform(tone.astype(np.float32), _RATE)


def _write_both(
    container: OutputContainer, video: str, sound: str, frames: Frames, audio: Waveform
) -> None:
    track = container.add_stream(video, rate=_FPS)
    assert isinstance(track, VideoStream)
    track.height, track.width = frames.pixels.shape[1:3]
    track.pix_fmt = "yuv420p"
    beside = _sound(container, sound)  # before anything is written
    for pixels in frames.pixels:
        container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(track.encode(None))
    _write_audio(container, beside, audio)


def _sound(container: OutputContainer, codec: str) -> AudioStream:
    track = container.add_stream(codec, rate=_RATE, layout="mono")
    assert isinstance(track, AudioStream)
    return track


def _write_audio(container: OutputContainer, track: AudioStream, audio: Waveform) -> None:
    resampler = av.AudioResampler(track.format, "mono", _RATE, track.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(_plane(audio.samples), format="flt", layout="mono")
    frame.rate, frame.time_base, frame.pts = _RATE, Fraction(1, _RATE), 0
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(track.encode(piece))
    container.mux(track.encode(None))


def _plane(samples: FloatArray) -> FloatArray:
    return np.ascontiguousarray(samples[None], np.float32)
