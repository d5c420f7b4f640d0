"""Opens media files with FFmpeg, which reads this one file and no other."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from mercore.errors import InputError
from mercore.limits import Limits

# By their names in FFmpeg. Left out are those that name other files or addresses (concat, hls,
# dash, sdp, rtsp, image sequences), and those of games and devices, which no clip comes in.
_FORMATS = (
    "3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dv,eac3,flac,flv,gif,h264,hevc,"
    "image2,ivf,m4a,m4v,matroska,mj2,mov,mp3,mp4,mpeg,mpegts,mpegvideo,mxf,nut,ogg,rm,tta,w64,"
    "wav,webm,wv,bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
)
_CLOCK = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)")
_Part = TypeVar("_Part")
_NOT_READ = "not in a format that is read: a playlist or another list of files, or unusual media"


@contextmanager
def open_media(path: str, limits: Limits) -> Iterator[InputContainer]:
    """Give the opened file; raises InputError naming it, also for what goes wrong inside.

    FFmpeg opens nothing but the file: formats that are lists of files are refused before they are
    read, and no protocol but that of files is there. It may take as long as the limits say to open
    the file, and to find the next packet in it.
    """
    problem = "cannot be read as media"
    began = time.monotonic()
    try:
        with av.open(
            path,
            options=_options(limits),
            metadata_errors="replace",
            timeout=limits.max_decoding,
        ) as container:
            problem = "is damaged or cut short"
            _check_riff(path)
            yield container
    except av.error.ExitError as error:  # its timeout
        limits.check_decoding(path, time.monotonic() - began)
        raise InputError(f"{path}: {problem}: {error.strerror}") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if error.errno == errno.EINVAL and problem == "cannot be read as media":
            reason = _NOT_READ
        if os.path.exists(path) and not os.path.getsize(path):
            reason = "the file is empty"
        raise InputError(f"{path}: {problem}: {reason}") from error


def in_time(path: str, parts: Iterator[_Part], limits: Limits) -> Iterator[_Part]:
    """Yield the packets or frames; raises InputError once FFmpeg has taken too long over them.

    What is done with them in between does not count.
    """
    spent = 0.0
    while True:
        began = time.monotonic()
        part = next(parts, None)
        spent += time.monotonic() - began
        limits.check_decoding(path, spent)
        if part is None:
            return
        yield part


def _options(limits: Limits) -> dict[str, str]:
    return {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        "pattern_type": "none",  # of image2: the name of a picture is no pattern of names
        # FFmpeg decodes frames to find out what a file is, before there is a size to look at.
        **decoder_options(limits),
    }


def decoder_options(limits: Limits) -> dict[str, str]:
    """Return what makes a decoder refuse larger frames before it takes memory for them."""
    return {"max_pixels": str(min(limits.max_pixels, 2**31 - 1))}


def _check_riff(path: str) -> None:
    """Compare a WAV or AVI with the size it declares: FFmpeg takes the rest of it for the whole."""
    with open(path, "rb") as file:
        head = file.read(8)
    declared = int.from_bytes(head[4:], "little")
    # A writer that could not go back to fill in the size leaves 0 or the largest number.
    if head[:4] == b"RIFF" and 0 < declared < 0xFFFFFFFF and os.path.getsize(path) < 0.9 * declared:
        raise InputError(f"{path}: cut short: {os.path.getsize(path)} of {declared + 8} bytes")


def one_thread(path: str, track: AudioStream | VideoStream) -> None:
    """Let one thread decode the track: files are decoded side by side already.

    Raises InputError for a codec that is not known, as that of a damaged file.
    """
    if track.codec_context is None:
        raise InputError(
            f"{path}: no codec is known for its {track.type}; convert it, or it is damaged"
        )
    track.codec_context.thread_count = 1


def duration(track: Stream) -> float:
    """Return the seconds the container declares, 0 where it does not say."""
    if track.duration:
        return seconds(track.duration, track.time_base)
    # Matroska keeps it as a tag: 00:00:03.064000000
    told = _CLOCK.fullmatch(track.metadata.get("DURATION", ""))
    return 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3]) if told else 0.0


def seconds(ticks: int | None, base: Fraction | None) -> float:
    """Return the seconds that so many ticks of the base are, 0 where one is not known."""
    return float(ticks * base) if ticks and base else 0.0
