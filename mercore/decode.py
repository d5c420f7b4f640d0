"""Reads media files with PyAV, within limits: any codec FFmpeg knows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import av
import numpy as np
import soxr
from av.container import InputContainer

from mercore.containers import duration, in_time, one_thread, open_media
from mercore.errors import InputError, SilentError
from mercore.frames import read_frames, sample_times, stream_frames
from mercore.limits import DEFAULT, Limits
from mercore.media import Audio, FloatArray, Media, Spec, Text, Video, Waveform

__all__ = [
    "decode",
    "has_audio",
    "read_audio",
    "read_frames",
    "read_text",
    "read_track",
    "resample",
    "sample_times",
    "stream_frames",
]

_SLACK = 0.5  # seconds that a stream may end before its container says; codecs pad and round
_BYTES = 4  # of a sample
_BLOCK = 1 << 20  # samples


def decode(path: str, spec: Spec, limits: Limits = DEFAULT) -> Media:
    """Return the file's medium as the spec asks.

    Raises InputError naming the file, also where it is beyond a limit; see ``mercore.limits``.
    """
    if isinstance(spec, Audio):
        return read_audio(path, spec.rate, limits)
    if isinstance(spec, Video):
        return read_frames(path, spec, limits)
    return read_text(path, limits)


def read_audio(path: str, rate: int, limits: Limits = DEFAULT) -> Waveform:
    """Return the first audio track, mixed down to mono and resampled to `rate` Hz.

    Raises InputError for a file that is not media, has no audio, is cut short or is all zeros.
    """
    audio = read_track(path, rate, limits=limits)
    if not audio.samples.any():
        raise SilentError(f"{path}: the audio is silent (every sample is zero)")
    return audio


def read_track(
    path: str, rate: int, *, channel: int | None = None, limits: Limits = DEFAULT
) -> Waveform:
    """Return what ``read_audio`` does, or one channel of it; silence is fine here.

    A file that has fewer channels gives its last one. Holds the audio once, at `rate`.
    """
    with open_media(path, limits) as container:
        if not container.streams.audio:
            raise InputError(f"{path}: no audio track")
        track = container.streams.audio[0]
        one_thread(path, track)
        native, expected = track.rate, duration(track)
        if not native:
            raise InputError(f"{path}: its audio has a rate of 0 Hz; it is damaged")
        _check_audio(path, int(expected * native), native, rate, limits)
        blocks = _in_blocks(_mono(container, path, channel, limits))
        checked = _checked(blocks, path, native, rate, limits)
        samples = _joined(_resampled(checked, native, rate))
    _check_whole(path, "audio", len(samples) / rate, expected)
    if not len(samples):
        raise InputError(f"{path}: the audio track is empty")
    return Waveform(samples, rate)


def _checked(
    blocks: Iterator[FloatArray], path: str, native: int, rate: int, limits: Limits
) -> Iterator[FloatArray]:
    """Yield the blocks while all together are within the limits."""
    found = 0
    for block in blocks:
        found += len(block)
        _check_audio(path, found, native, rate, limits)
        yield block


def _check_audio(path: str, samples: int, native: int, rate: int, limits: Limits) -> None:
    limits.check_seconds(path, samples / native)
    limits.check_memory(path, _BYTES * math.ceil(samples * rate / native), "audio")


def _resampled(blocks: Iterator[FloatArray], native: int, rate: int) -> Iterator[FloatArray]:
    """Yield the blocks at `rate` Hz: together bit for bit what ``resample`` makes of the whole."""
    if native == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(native, rate, 1)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def resample(audio: Waveform, rate: int) -> Waveform:
    """Return the audio at `rate` Hz (soxr, high quality); the same object where it fits already."""
    if audio.rate == rate:
        return audio
    resampled = soxr.resample(audio.samples, audio.rate, rate)
    return Waveform(resampled.astype(np.float32, copy=False), rate)


def has_audio(path: str) -> bool:
    """Return whether the file has an audio track; raises InputError when it is not media."""
    with open_media(path, DEFAULT) as container:
        return bool(container.streams.audio)


def read_text(path: str, limits: Limits = DEFAULT) -> Text:
    """Return the content of a UTF-8 text file, without surrounding white space."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            limits.check_text(path, os.fstat(file.fileno()).st_size)
            content = file.read(limits.max_text + 1)  # some files have no size, such as a pipe
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    limits.check_text(path, len(content))
    return Text(content.strip())


def _in_blocks(parts: Iterator[FloatArray]) -> Iterator[FloatArray]:
    """Yield the parts joined to blocks of some MB: what follows costs something for each."""
    waiting: list[FloatArray] = []
    filled = 0
    for part in parts:
        waiting.append(part)
        filled += len(part)
        if filled >= _BLOCK:
            yield np.concatenate(waiting)
            waiting, filled = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _joined(blocks: Iterator[FloatArray]) -> FloatArray:
    """Return the blocks as one array, which grows in its place: nothing is held twice."""
    whole = np.empty(0, np.float32)
    for block in blocks:
        found = len(whole)
        whole.resize(found + len(block), refcheck=False)
        whole[found:] = block
    return whole


def _mono(
    container: InputContainer, path: str, channel: int | None, limits: Limits
) -> Iterator[FloatArray]:
    # FFmpeg's own mix to mono weighs stereo by 0.7 each, so that loud music clips: take the mean.
    converter = av.AudioResampler(format="fltp", rate=container.streams.audio[0].rate)
    for frame in in_time(path, container.decode(audio=0), limits):
        for planar in converter.resample(frame):
            channels = planar.to_ndarray()
            if channel is None:
                yield channels.mean(axis=0, dtype=np.float32)  # (channels, n) -> (n,)
            else:
                yield channels[min(channel, len(channels) - 1)]


def _check_whole(path: str, what: str, found: float, expected: float) -> None:
    if found < 0.9 * expected - _SLACK:
        raise InputError(
            f"{path}: the {what} is cut short: {found:.1f} s of {expected:.1f} s could be decoded"
        )
