from __future__ import annotations

import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from run_mer import mer, mer_json
from toy_clips import write_mp4, write_wav

from mercore.decode import decode, read_audio, read_frames, read_track, stream_frames
from mercore.errors import InputError, RunError
from mercore.limits import Limits, parse_size, size_text
from mercore.media import Audio, Video, Words
from mercore.project import Project
from mercore.reader import Reader
from mercore.sources import Sources

HOURS = 10
COLOURS = [(200, 20, 20), (20, 180, 20), (20, 20, 200)]


def sparse_wav(path: Path, seconds: int, rate: int = 16_000) -> Path:
    """Write 16-bit silence of any length that takes no space on the disk."""
    size = 2 * rate * seconds
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size,
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    return path


def silent_about_its_length(path: Path, seconds: int) -> Path:
    """Write Matroska audio as a live stream is written: without a duration."""
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as container:
        track = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        assert isinstance(track, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(
            np.full((1, 8_000 * seconds), 9, np.int16), format="s16", layout="mono"
        )
        frame.rate = 8_000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def png(path: Path, width: int, height: int) -> Path:
    """Write a picture that says it is large, and is not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 3 * width))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_a_clip_of_ten_hours_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = sparse_wav(tmp_path / "long.wav", HOURS * 3600)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(InputError) as caught:
        read_audio(str(path), 16_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 1  # many more to decode it
    assert str(caught.value) == (
        f"{path}: lasts 36000.0 s or more, and the limit is 3600 s; raise it with --max-seconds "
        "(features of a clip that failed are tried again with --retry-failed)"
    )


def test_a_clip_that_does_not_say_how_long_it_is_is_refused_too(tmp_path: Path) -> None:
    path = str(silent_about_its_length(tmp_path / "live.mkv", 3))
    assert read_track(path, 8_000).seconds == 3
    with pytest.raises(InputError, match=r"lasts 3.0 s or more, and the limit is 2 s"):
        read_track(path, 8_000, limits=Limits(max_seconds=2))


def test_a_video_of_hours_is_refused_also_where_a_few_frames_are_wanted(tmp_path: Path) -> None:
    path = str(write_mp4(tmp_path / "a.mp4", COLOURS * 10, rate=10))
    with pytest.raises(InputError, match=r"a.mp4: lasts 3.0 s or more.* 2 s; .*--max-seconds"):
        decode(path, Video(count=1), Limits(max_seconds=2))


def test_large_frames_are_refused(tmp_path: Path) -> None:
    path = str(write_mp4(tmp_path / "a.mp4", COLOURS))
    assert len(read_frames(path, Video(), Limits(max_pixels=64 * 48)).times) == 3
    said = r"a.mp4: has frames of 64 x 48 = 3072 pixels or more, and the limit is 3071; .*pixels"
    with pytest.raises(InputError, match=said):
        read_frames(path, Video(), Limits(max_pixels=64 * 48 - 1))
    with pytest.raises(InputError, match=said):
        list(stream_frames(path, 2, Limits(max_pixels=64 * 48 - 1)))


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = str(png(tmp_path / "bomb.png", 12_000, 12_000))
    said = r"bomb.png: no size of its frames is found: they are damaged, or larger than .*33177600"
    tell_peak = "[line for line in open('/proc/self/status') if line.startswith('VmHWM')]"
    code = (
        "import sys\n"
        "from mercore.decode import read_frames\n"
        "from mercore.errors import InputError\n"
        "from mercore.media import Video\n"
        f"before = {tell_peak}\n"
        "try:\n    read_frames(sys.argv[1], Video(count=1))\n"
        "except InputError as error:\n    print(error)\n"
        f"print(*before, *{tell_peak})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert re.search(said, done.stdout), done.stdout + done.stderr
    before, after = map(int, re.findall(r"(\d+) kB", done.stdout))
    assert after - before < 100_000  # the picture has 432 MB


def test_many_frames_are_refused(tmp_path: Path) -> None:
    path = str(write_mp4(tmp_path / "a.mp4", COLOURS))
    with pytest.raises(InputError, match=r"has 3 frames or more, and the limit is 2; .*max-frames"):
        read_frames(path, Video(count=1), Limits(max_frames=2))


def test_only_wanted_frames_count_as_memory(tmp_path: Path) -> None:
    path = str(write_mp4(tmp_path / "a.mp4", COLOURS))
    limits = Limits(max_memory=20_000)
    assert len(read_frames(path, Video(count=2), limits).times) == 2
    said = r"needs 27KiB of memory for its 3 frames or more.* 19.54KiB; .*--max-memory"
    with pytest.raises(InputError, match=said):
        read_frames(path, Video(), limits)


def test_audio_counts_as_memory_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = str(write_wav(tmp_path / "a.wav", 0.5, rate=8_000))
    limits = Limits(max_memory=16_000)
    assert len(read_audio(path, 8_000, limits).samples) == 4_000
    with pytest.raises(InputError, match=r"needs 31.25KiB of memory for its audio"):
        read_audio(path, 16_000, limits)


def test_a_large_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 100)
    with pytest.raises(InputError, match=r"a.txt: has 500B of text .*400B; .*--max-text"):
        decode(str(path), Words(), Limits(max_text=400))


def test_frames_are_held_once(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        track.width, track.height, track.pix_fmt = 640, 480, "yuv420p"
        for shade in range(40):
            picture = np.full((480, 640, 3), shade, np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode(None))
    read_frames(str(path), Video(count=1))
    tracemalloc.start()
    frames = read_frames(str(path), Video(count=32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(frames.times) == 32
    assert peak < 1.2 * frames.pixels.nbytes


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_long_audio_is_held_once_at_any_rate(tmp_path: Path, rate: int) -> None:
    path = sparse_wav(tmp_path / "long.wav", 900)
    code = (
        "import re, sys\n"
        "from mercore.decode import read_track\n"
        "told = lambda: open('/proc/self/status').read()\n"
        "used = lambda: 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', told())[1])\n"
        "before = used()\n"
        "size = read_track(sys.argv[1], int(sys.argv[2])).samples.nbytes\n"
        "print(used() - before - size)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(rate)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40e6  # a few blocks of 4 MB; at 8 kHz it has 28.8 MB, at 16 57.6


def test_a_file_in_which_nothing_is_found_for_long_is_given_up(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mkv", COLOURS, tone=440.0)
    os.truncate(path, 100 * 10**9)  # takes no space on the disk; minutes to look through
    said = r"a.mkv: has taken 0\.\d s to decode or more, and the limit is 0.2 s; .*--max-decoding"
    for spec in (Audio(8_000), Video(count=1)):
        with pytest.raises(InputError, match=said):
            decode(str(path), spec, Limits(max_decoding=0.2))


def test_decoding_that_takes_long_is_given_up(tmp_path: Path) -> None:
    path = sparse_wav(tmp_path / "long.wav", HOURS * 3600)
    limits = Limits(max_seconds=math.inf, max_memory=2**40, max_decoding=0.2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(InputError, match=r"long.wav: has taken 0\.\d s to decode or more"):
        read_track(str(path), 16_000, limits=limits)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 2  # many more to decode it


def wait_until_nothing_is_allocated() -> None:
    before = -1
    while (now := tracemalloc.get_traced_memory()[0]) != before:
        before = now
        time.sleep(0.3)


def test_clips_that_wait_for_their_encoder_take_little_memory(
    folder: Path,
) -> None:
    paths = [str(write_wav(folder / f"{n}.wav", 5.0)) for n in range(20)]
    rows = [f"c{n},test,{path}" for n, path in enumerate(paths)]
    (folder / "manifest.csv").write_text("\n".join(["id,split,audio", *rows, ""]))
    made = Project.open("registry.yaml", "manifest.csv", "mer.zarr", create=True)
    size = 4 * 5 * 16_000
    reader = Reader(made.pipeline.features["sound"], {}, Sources(), Limits(max_memory=2 * size))
    tracemalloc.start()
    with reader.ahead(made.manifest.samples, threads=2) as items:
        found = [next(items).sample.id]
        wait_until_nothing_is_allocated()  # the threads would read 16 of them
        _, peak = tracemalloc.get_traced_memory()
        found += [item.sample.id for item in items]
    tracemalloc.stop()
    assert peak < 9 * size  # 2, what each thread is at with its copies, and the first
    assert found == [f"c{n}" for n in range(20)]


REGISTRY = """\
classes: [sad, happy]
features:
  sound: {uses: loudness}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short clip and a long one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    write_wav(tmp_path / "short.wav", 0.5)
    write_wav(tmp_path / "long.wav", 2.0)
    rows = "short,test,short.wav\nlong,test,long.wav\n"
    (tmp_path / "manifest.csv").write_text("id,split,audio\n" + rows)
    return tmp_path


def test_a_clip_beyond_a_limit_fails_alone_until_it_is_tried_with_another(folder: Path) -> None:
    result = mer("extract", "--max-seconds", "1", "--device", "cpu")
    assert result.exit_code == 3
    assert "the limit is 1 s; raise it with --max-seconds" in result.output
    assert mer("extract", "--device", "cpu").exit_code == 3  # a failure is kept
    (row,) = mer_json("extract", "--retry-failed", "--device", "cpu")
    assert (row["extracted"], row["failed"]) == (1, 0)
    assert (
        len(list((folder / "mer.zarr/features").glob("sound@*"))) == 1
    )  # a limit is no other feature


def test_limits_come_from_the_environment_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCORE_EXTRACT_MAX_MEMORY", "40kB")
    result = mer("extract", "--device", "cpu")
    assert result.exit_code == 3
    assert re.search(r"needs 62.5KiB of memory.* 39.07KiB", result.output), result.output


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("2GiB", 2 * 1024**3), ("1.5 MB", 1_500_000), ("10kib", 10_240), ("7B", 7)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_sizes_are_written_as_they_are_read() -> None:
    for size in (1, 1024, 2 * 1024**3, 3 * 1024**2):
        assert parse_size(size_text(size)) == size
    assert size_text(1024**3 + 1) == "1.01GiB"  # never as the limit it is beyond


def test_wrong_limits_are_wrong_usage(folder: Path) -> None:
    for option in (
        "--max-memory=2XB",
        "--max-memory=0",
        "--max-seconds=0",
        "--max-pixels=8K",
        "--max-decoding=0",
    ):
        result = mer("extract", option)
        assert result.exit_code == 2, option
        assert option.partition("=")[0] in result.stderr
    assert mer("extract", "--max-seconds", "nan").exit_code == 1
    with pytest.raises(RunError, match=r"max_frames 0: expected a number above 0"):
        Limits(max_frames=0)


def test_a_limit_may_be_lifted(folder: Path) -> None:
    assert json.loads(mer("extract", "--max-seconds", "inf", "--device=cpu", "--json").stdout)
    assert decode(str(folder / "long.wav"), Audio(8_000), Limits(max_seconds=float("inf")))
