"""How much memory a very long recording and a very large video take.

    python benchmarks/large_media.py [--hours 10] [--frames 30]

Writes them (10 hours of faint noise as mono FLAC of 16 kHz; 10 hours of stereo at 48 kHz as a
sparse AU file; an 8K video), and decodes each in a process of its own. `expected` is what the limit
of memory counts, `peak` what the process took beyond what it had before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from mercore.decode import read_frames, read_track
from mercore.errors import InputError
from mercore.limits import DEFAULT, Limits, size_text
from mercore.media import Audio, Frames, Media, Spec, Video, Waveform

RATE = 16_000
WIDTH, HEIGHT = 7680, 4320
RAISED = Limits(max_seconds=float("inf"), max_memory=8 * 1024**3)
VIDEOS = {"4 frames": Video(count=4), "5 a second": Video(rate=5), "all": Video()}


def main() -> None:
    """Print a row for each file and what is asked of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--frames", type=int, default=30)
    given = parser.parse_args()
    print("| file | asked for | limits | came to | expected | peak | seconds |")
    print("|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        noise = flac(Path(folder) / "noise.flac", given.hours)
        stereo = sparse(Path(folder) / "stereo.au", given.hours)
        video = eight_k(Path(folder) / "8k.mp4", given.frames)
        for path in (noise, stereo):
            for limits in (DEFAULT, RAISED):
                show(path, "audio", Audio(RATE), limits)
        for asked, spec in VIDEOS.items():
            show(video, asked, spec, DEFAULT)
        show(video, "all", Video(), RAISED)


def show(path: Path, asked: str, spec: Spec, limits: Limits) -> None:
    """Decode the file in a process of its own and print what came of it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    began = time.perf_counter()
    process = context.Process(target=child, args=(str(path), spec, limits, there))
    process.start()
    told, expected, peak = here.recv()
    process.join()
    took = time.perf_counter() - began
    raised = "default" if limits is DEFAULT else "raised"
    size = size_text(expected) if expected else ""
    row = (path.name, asked, raised, told, size, peak, f"{took:.1f}")
    print("|", " | ".join(row), "|", flush=True)


def child(path: str, spec: Spec, limits: Limits, to: Connection) -> None:
    """Decode the file; send what came of it, the bytes of the medium, and the peak."""
    before = peak()
    try:
        told, size = "decoded", held(decoded(path, spec, limits))
    except InputError as error:
        option = re.search(r"--[a-z-]+", str(error))
        told, size = f"refused: {option[0] if option else error}", 0
    to.send((told, size, size_text(peak() - before)))


def decoded(path: str, spec: Spec, limits: Limits) -> Media:
    """Return the medium; silence is fine."""
    if isinstance(spec, Audio):
        return read_track(path, spec.rate, limits=limits)
    assert isinstance(spec, Video)
    return read_frames(path, spec, limits)


def held(media: Media) -> int:
    """Return the bytes that the limit of memory counts."""
    if isinstance(media, Waveform):
        return media.samples.nbytes
    assert isinstance(media, Frames)
    return media.pixels.nbytes


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    told = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+)", told)
    assert found
    return 1024 * int(found[1])


def flac(path: Path, hours: float) -> Path:
    """Write faint noise, mono."""
    random = np.random.default_rng(0)
    minute = random.integers(-8, 8, (1, 60 * RATE)).astype(np.int16)
    with av.open(str(path), "w") as container:
        track = container.add_stream("flac", rate=RATE, layout="mono")
        for number in range(round(60 * hours)):
            frame = av.AudioFrame.from_ndarray(minute, format="s16", layout="mono")
            frame.rate, frame.pts = RATE, number * 60 * RATE
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def sparse(path: Path, hours: float) -> Path:
    """Write 16-bit stereo silence of 48 kHz that takes no space on the disk."""
    head = struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 48_000, 2)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + round(3600 * hours) * 48_000 * 4)
    return path


def eight_k(path: Path, frames: int) -> Path:
    """Write a picture that moves, as H.264."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=15, options={"preset": "ultrafast"})
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures(frames):
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(track.encode(None))
    return path


def pictures(count: int) -> Iterator[np.ndarray]:
    """Yield ``(height, width)`` uint8 gradients, each shifted a little."""
    gradient = (np.arange(HEIGHT)[:, None] // 17 + np.arange(WIDTH)[None] // 30).astype(np.uint8)
    for number in range(count):
        yield np.roll(gradient, 16 * number, axis=1)


if __name__ == "__main__":
    main()
