"""Reads the frames of videos, those that are wanted, with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mercore.containers import (
    decoder_options,
    duration,
    in_time,
    one_thread,
    open_media,
    seconds,
)
from mercore.errors import InputError
from mercore.limits import DEFAULT, Limits
from mercore.media import Frames, Video

Picture = NDArray[np.uint8]
"""``(height, width, 3)`` RGB."""


def read_frames(path: str, spec: Video, limits: Limits = DEFAULT) -> Frames:
    """Return the frames the spec asks for, upright, RGB, with their times in seconds.

    Only the frames asked for are converted to RGB and held. Raises InputError for a file that is
    not media, has no picture, is cut short or changes the size of its frames.
    """
    wanted = sample_times(_frame_times(path, limits), spec).tolist()
    chosen = set(wanted)
    times: list[float] = []
    pixels = np.empty((0, 0, 0, 3), np.uint8)
    for index, (frame, time) in enumerate(islice(_shown(path, limits), wanted[-1] + 1)):
        if index not in chosen:
            continue
        picture = _upright(frame)
        if not times:
            limits.check_memory(path, len(wanted) * picture.nbytes, f"{len(wanted)} frames")
            pixels = np.empty((len(wanted), *picture.shape), np.uint8)
        _check_size(path, picture, pixels)
        pixels[len(times)] = picture
        times.append(time)
    _check_decoded(path, len(times), len(wanted))
    return Frames(pixels, np.array(times))


def stream_frames(path: str, at_once: int, limits: Limits = DEFAULT) -> Iterator[Frames]:
    """Yield all frames that ``read_frames`` would return, `at_once` at a time.

    Raises InputError as it does, for a damaged file after the frames that could be decoded.
    """
    expected, found = len(_frame_times(path, limits)), 0
    shown = _shown(path, limits)
    while part := list(islice(shown, at_once)):
        found += len(part)
        yield Frames(
            np.stack([_upright(frame) for frame, _ in part]), np.array([t for _, t in part])
        )
    _check_decoded(path, found, expected)


def _frame_times(path: str, limits: Limits) -> NDArray[np.float64]:
    """Return the seconds of all frames since the first, from the packets alone."""
    with open_media(path, limits) as container:
        if not container.streams.video:
            raise InputError(f"{path}: no video track")
        track = container.streams.video[0]
        limits.check_pixels(path, track.width, track.height)
        limits.check_seconds(path, duration(track))
        expected = track.frames  # 0 where the container does not say
        limits.check_frames(path, expected)
        times = np.sort(list(_packet_times(path, container, track, limits)))
    if len(times) < 0.9 * expected:
        raise InputError(f"{path}: the video is cut short: {len(times)} of {expected} frames")
    if not len(times):
        raise InputError(f"{path}: the video track has no frames")
    since_first: NDArray[np.float64] = times - times[0]
    limits.check_seconds(path, since_first[-1])
    return since_first


def _packet_times(
    path: str, container: InputContainer, track: VideoStream, limits: Limits
) -> Iterator[float]:
    found = 0
    for packet in in_time(path, container.demux(track), limits):
        if packet.pts is not None and not packet.is_discard:
            found += 1
            limits.check_frames(path, found)
            yield seconds(packet.pts, packet.time_base)


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


def _shown(path: str, limits: Limits) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield the frames with their seconds since the first."""
    with open_media(path, limits) as container:
        track = container.streams.video[0]
        one_thread(path, track)
        track.codec_context.options = decoder_options(limits)  # their size may change
        start: float | None = None
        for number, frame in enumerate(in_time(path, container.decode(video=0), limits), start=1):
            limits.check_frames(path, number)
            start = frame.time or 0.0 if start is None else start
            yield frame, (frame.time or 0.0) - start


def _upright(frame: av.VideoFrame) -> Picture:
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return np.rot90(picture, round(frame.rotation / 90))


def _check_size(path: str, picture: Picture, pixels: NDArray[np.uint8]) -> None:
    height, width = picture.shape[:2]
    if picture.shape != pixels.shape[1:]:
        before = f"{pixels.shape[2]} x {pixels.shape[1]}"
        raise InputError(f"{path}: its frames change from {before} to {width} x {height} pixels")
