"""Reads media files with PyAV: any container and codec FFmpeg knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from mercore.errors import InputError
from mercore.media import Audio, FloatArray, Frames, Media, Spec, Text, Video, Waveform

Picture = NDArray[np.uint8]
"""``(height, width, 3)`` RGB."""

_SLACK = 0.5  # seconds that a stream may end before its container says; codecs pad and round


def decode(path: str, spec: Spec) -> Media:
    """Return the file's medium as the spec asks; raises InputError naming the file."""
    if isinstance(spec, Audio):
        return read_audio(path, spec.rate)
    if isinstance(spec, Video):
        return read_frames(path, spec)
    return read_text(path)


def read_audio(path: str, rate: int) -> Waveform:
    """Return the first audio track, mixed down to mono and resampled to `rate` Hz.

    Raises InputError for a file that is not media, has no audio, is cut short or is all zeros.
    """
    audio = read_track(path, rate)
    if not audio.samples.any():
        raise InputError(f"{path}: the audio is silent (every sample is zero)")
    return audio


def read_track(path: str, rate: int, *, channel: int | None = None) -> Waveform:
    """Return what ``read_audio`` does, or one channel of it; silence is fine here.

    A file that has fewer channels gives its last one.
    """
    with _open(path) as container:
        if not container.streams.audio:
            raise InputError(f"{path}: no audio track")
        track = container.streams.audio[0]
        track.codec_context.thread_count = 1  # files are decoded side by side already
        native = track.rate
        parts = list(_mono(container, native, channel))
        expected = _duration(track)
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    _check_whole(path, "audio", len(samples) / native, expected)
    if not len(samples):
        raise InputError(f"{path}: the audio track is empty")
    return resample(Waveform(samples, native), rate)


def resample(audio: Waveform, rate: int) -> Waveform:
    """Return the audio at `rate` Hz (soxr, high quality); the same object where it fits already."""
    if audio.rate == rate:
        return audio
    return Waveform(soxr.resample(audio.samples, audio.rate, rate).astype(np.float32), rate)


def read_frames(path: str, spec: Video) -> Frames:
    """Return the frames the spec asks for, upright, RGB, with their times in seconds.

    Only the frames asked for are converted to RGB. Raises InputError for a file that is not media,
    has no picture, or is cut short.
    """
    wanted = sample_times(_frame_times(path), spec)
    pixels, found = _pictures(path, set(wanted.tolist()))
    _check_decoded(path, len(pixels), len(wanted))
    return Frames(np.stack(pixels), np.array(found))


def stream_frames(path: str, at_once: int) -> Iterator[Frames]:
    """Yield all frames that ``read_frames`` would return, `at_once` at a time.

    Raises InputError as it does, for a damaged file after the frames that could be decoded.
    """
    expected, found = len(_frame_times(path)), 0
    shown = _shown(path)
    while part := list(islice(shown, at_once)):
        found += len(part)
        yield Frames(
            np.stack([_upright(frame) for frame, _ in part]), np.array([t for _, t in part])
        )
    _check_decoded(path, found, expected)


def has_audio(path: str) -> bool:
    """Return whether the file has an audio track; raises InputError when it is not media."""
    with _open(path) as container:
        return bool(container.streams.audio)


def _frame_times(path: str) -> NDArray[np.float64]:
    """Return the seconds of all frames since the first, from the packets alone."""
    with _open(path) as container:
        if not container.streams.video:
            raise InputError(f"{path}: no video track")
        track = container.streams.video[0]
        shown = (packet for packet in container.demux(track) if not packet.is_discard)
        times = np.sort([_seconds(p.pts, p.time_base) for p in shown if p.pts is not None])
        expected = track.frames  # 0 where the container does not say
    if len(times) < 0.9 * expected:
        raise InputError(f"{path}: the video is cut short: {len(times)} of {expected} frames")
    if not len(times):
        raise InputError(f"{path}: the video track has no frames")
    since_first: NDArray[np.float64] = times - times[0]
    return since_first


def _check_decoded(path: str, found: int, expected: int) -> None:
    if found < expected:
        raise InputError(
            f"{path}: the video is cut short or damaged: {found} of {expected} frames "
            "could be decoded"
        )


def sample_times(times: NDArray[np.float64], spec: Video) -> NDArray[np.int64]:
    """Return the indices of the frames the spec asks for, without repeats, in order."""
    if spec.count is not None:
        if spec.count >= len(times):
            return np.arange(len(times))
        # The middles of `count` equal parts: no frame of the very first or last instant.
        return ((np.arange(spec.count) + 0.5) * len(times) / spec.count).astype(np.int64)
    if spec.rate is not None:
        ticks = np.arange(0.0, times[-1] + 1e-9, 1.0 / spec.rate)
        later = np.searchsorted(times, ticks).clip(0, len(times) - 1)
        before = (later - 1).clip(0)
        nearest = np.where(ticks - times[before] <= times[later] - ticks, before, later)
        return np.unique(nearest)
    return np.arange(len(times))


def read_text(path: str) -> Text:
    """Return the content of a UTF-8 text file, without surrounding white space."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return Text(file.read().strip())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


@contextmanager
def _open(path: str) -> Iterator[InputContainer]:
    problem = "cannot be read as media"
    try:
        with av.open(path) as container:
            problem = "is damaged or cut short"
            _check_riff(path)
            yield container
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if os.path.exists(path) and not os.path.getsize(path):
            reason = "the file is empty"
        raise InputError(f"{path}: {problem}: {reason}") from error


def _mono(container: InputContainer, rate: int, channel: int | None) -> Iterator[FloatArray]:
    # FFmpeg's own mix to mono weighs stereo by 0.7 each, so that loud music clips: take the mean.
    converter = av.AudioResampler(format="fltp", rate=rate)
    for frame in container.decode(audio=0):
        for planar in converter.resample(frame):
            channels = planar.to_ndarray()
            if channel is None:
                yield channels.mean(axis=0, dtype=np.float32)  # (channels, n) -> (n,)
            else:
                yield channels[min(channel, len(channels) - 1)]


def _check_riff(path: str) -> None:
    """Compare a WAV or AVI with the size it declares: FFmpeg takes the rest of it for the whole."""
    with open(path, "rb") as file:
        head = file.read(8)
    declared = int.from_bytes(head[4:], "little")
    # A writer that could not go back to fill in the size leaves 0 or the largest number.
    if head[:4] == b"RIFF" and 0 < declared < 0xFFFFFFFF and os.path.getsize(path) < 0.9 * declared:
        raise InputError(f"{path}: cut short: {os.path.getsize(path)} of {declared + 8} bytes")


def _duration(track: AudioStream) -> float:
    """Return the seconds the container declares, 0 where it does not say."""
    if track.duration:
        return _seconds(track.duration, track.time_base)
    # Matroska keeps it as a tag: 00:00:03.064000000
    hours, _, rest = track.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    return 3600 * float(hours) + 60 * float(minutes) + float(seconds) if seconds else 0.0


def _check_whole(path: str, what: str, found: float, expected: float) -> None:
    if found < 0.9 * expected - _SLACK:
        raise InputError(
            f"{path}: the {what} is cut short: {found:.1f} s of {expected:.1f} s could be decoded"
        )


def _seconds(ticks: int | None, base: Fraction | None) -> float:
    return float(ticks * base) if ticks and base else 0.0


def _pictures(path: str, wanted: set[int]) -> tuple[list[Picture], list[float]]:
    pixels: list[Picture] = []
    times: list[float] = []
    last = max(wanted)
    for index, (frame, time) in enumerate(_shown(path)):
        if index in wanted:
            pixels.append(_upright(frame))
            times.append(time)
        if index == last:
            break
    return pixels, times


def _shown(path: str) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield the frames with their seconds since the first."""
    with _open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        start: float | None = None
        for frame in container.decode(video=0):
            start = frame.time or 0.0 if start is None else start
            yield frame, (frame.time or 0.0) - start


def _upright(frame: av.VideoFrame) -> Picture:
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return np.rot90(picture, round(frame.rotation / 90))
