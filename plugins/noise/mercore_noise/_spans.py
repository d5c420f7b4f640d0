"""Spans of long audio files, read without what is before and behind them."""

from __future__ import annotations

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from mercore.decode import resample
from mercore.errors import InputError
from mercore.media import FloatArray, Waveform


def seconds_of(path: str) -> float:
    """Return how long the file says it is, 0 where it does not say or is no audio."""
    try:
        with av.open(path) as container:
            track = container.streams.audio[0]
            return float((track.duration or 0) * (track.time_base or 0))
    except (av.error.FFmpegError, OSError, IndexError):
        return 0.0  # whoever reads it says what is wrong


def read_span(path: str, rate: int, start: int, length: int) -> FloatArray:
    """Return `length` samples at `rate` Hz from sample `start` on, mixed down to mono.

    Begins with the nearest sample of the file before that. Raises InputError where the file is
    damaged or ends too soon.
    """
    try:
        with av.open(path) as container:
            track = container.streams.audio[0]
            native = track.rate
            first, count = start * native // rate, -(-length * native // rate)
            samples = _decoded(container, track, first, count)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: is damaged or cut short: {error}") from error
    found = resample(Waveform(samples, native), rate).samples[:length]
    if len(found) < length:
        raise InputError(
            f"{path}: cut short: no audio {(start + len(found)) / rate:.1f} s from its start"
        )
    return found


def _decoded(container: InputContainer, track: AudioStream, first: int, count: int) -> FloatArray:
    """Return `count` samples from `first` on, at the track's own rate; fewer where it ends."""
    tick = track.time_base or 1
    container.seek(int(first / track.rate / tick), stream=track)
    to_floats = av.AudioResampler(format="fltp", rate=track.rate)
    parts: list[FloatArray] = []
    place: int | None = None
    for frame in container.decode(track):
        place = round((frame.time or 0.0) * track.rate) if place is None else place
        if place + frame.samples > first:
            for planar in to_floats.resample(frame):
                part = planar.to_ndarray().mean(axis=0, dtype=np.float32)
                parts.append(part[max(0, first - place) : first + count - place])
        place += frame.samples
        if place >= first + count:
            break
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
