from __future__ import annotations

import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from toy_clips import write_mp4, write_samples, write_wav

from mercore.decode import (
    decode,
    read_audio,
    read_frames,
    read_text,
    read_track,
    resample,
    sample_times,
)
from mercore.errors import InputError
from mercore.media import Audio, Frames, Media, Spec, Text, Video, Waveform, Words

RED, GREEN, BLUE = (200, 20, 20), (20, 180, 20), (20, 20, 200)


def test_audio_is_resampled_to_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 0.5, tone=440, rate=44_100)
    audio = read_audio(str(path), 16_000)
    times = np.arange(8_000) / 16_000
    assert audio.rate == 16_000
    assert audio.seconds == pytest.approx(0.5)
    middle = slice(1_000, 7_000)  # the filter rings at the ends
    expected = 0.5 * np.sin(2 * np.pi * 440 * times)
    assert np.abs(audio.samples[middle] - expected[middle]).max() < 2e-3


def test_long_audio_is_resampled_bit_for_bit_as_it_is_in_one_piece(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-9_000, 9_000, (1, 25 * 44_100)).astype(np.int16)
    path = str(write_samples(tmp_path / "a.wav", noise, 44_100))
    whole = resample(read_audio(path, 44_100), 16_000)
    assert np.array_equal(read_audio(path, 16_000).samples, whole.samples)


def test_audio_at_its_own_rate_is_exact(tmp_path: Path) -> None:
    samples = np.arange(-8_000, 8_000, 5, dtype=np.int16)[None]
    audio = read_audio(str(write_samples(tmp_path / "a.wav", samples, 8_000)), 8_000)
    assert np.array_equal(audio.samples, samples[0].astype(np.float32) / 32768)


def test_stereo_is_mixed_down_to_the_mean(tmp_path: Path) -> None:
    left = np.full(800, 8_000, np.int16)
    right = np.full(800, -4_000, np.int16)
    path = write_samples(tmp_path / "a.wav", np.stack([left, right]), 8_000)
    assert read_audio(str(path), 8_000).samples == pytest.approx(2_000 / 32768, abs=1e-4)


def test_one_channel_may_be_read_alone_and_may_be_silent(tmp_path: Path) -> None:
    left, right = np.full(800, 8_000, np.int16), np.zeros(800, np.int16)
    path = str(write_samples(tmp_path / "a.wav", np.stack([left, right]), 8_000))
    assert read_track(path, 8_000, channel=0).samples == pytest.approx(8_000 / 32768, abs=1e-4)
    assert not read_track(path, 8_000, channel=1).samples.any()
    assert not read_track(path, 8_000, channel=7).samples.any()
    assert read_track(path, 8_000).samples == pytest.approx(4_000 / 32768, abs=1e-4)


def test_frames_are_rgb_in_order_with_times_in_seconds(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", [RED, GREEN, BLUE], rate=10)
    frames = read_frames(str(path), Video())
    assert frames.pixels.shape == (3, 48, 64, 3)
    assert frames.times == pytest.approx([0.0, 0.1, 0.2], abs=1e-3)
    assert np.abs(frames.pixels.mean(axis=(1, 2)) - [RED, GREEN, BLUE]).max() < 6


def test_only_the_frames_that_are_asked_for_are_returned(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", [RED] * 10 + [BLUE] * 10, rate=10)
    frames = read_frames(str(path), Video(count=2))
    assert frames.times == pytest.approx([0.5, 1.5], abs=1e-3)
    assert np.abs(frames.pixels.mean(axis=(1, 2)) - [RED, BLUE]).max() < 6
    assert len(read_frames(str(path), Video(rate=2)).times) == 4


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Video(), list(range(10))),
        (Video(count=3), [1, 5, 8]),
        (Video(count=1), [5]),
        (Video(count=99), list(range(10))),
        (Video(rate=5.0), [0, 2, 4, 6, 8]),
        (Video(rate=100.0), list(range(10))),
    ],
)
def test_frames_are_sampled_evenly_or_at_a_rate(spec: Video, expected: list[int]) -> None:
    assert sample_times(np.arange(10) / 10, spec).tolist() == expected


def test_audio_and_frames_come_from_one_file(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", [RED] * 10, tone=300)
    audio = read_audio(str(path), 16_000)
    spectrum = np.abs(np.fft.rfft(audio.samples))
    assert spectrum.argmax() * 16_000 / len(audio.samples) == pytest.approx(300, abs=3)
    assert isinstance(decode(str(path), Video(count=1)), Frames)


def test_text_is_read_without_marks_and_surrounding_space(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff 你好 \n".encode())
    assert decode(str(path), Words()) == Text("你好")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a.txt: not UTF-8"):
        read_text(str(path))


def test_what_cannot_be_used_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "notes.wav").write_text("these are not the samples you are looking for" * 50)
    with wave.open(str(tmp_path / "none.wav"), "wb") as none:
        none.setparams((1, 2, 8_000, 0, "NONE", ""))
    write_samples(tmp_path / "silent.wav", np.zeros((1, 800), np.int16), 8_000)
    whole = write_mp4(tmp_path / "whole.mp4", [RED, BLUE] * 20, tone=300)
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    mute = write_mp4(tmp_path / "mute.mp4", [RED])
    for name, reason in {
        "empty.wav": "cannot be read as media",
        "notes.wav": "cannot be read as media",
        "none.wav": "the audio track is empty",
        "silent.wav": "the audio is silent",
        "half.mp4": "cannot be read as media",
        "gone.wav": "cannot be read as media: No such file",
        mute.name: "no audio track",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            decode(str(tmp_path / name), Audio(16_000))
    with pytest.raises(InputError, match=r"silent.wav: no video track"):
        decode(str(tmp_path / "silent.wav"), Video())


def test_media_that_is_cut_short_is_refused(tmp_path: Path) -> None:

    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(40):
            picture = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert len(read_frames(str(whole), Video()).times) == 40
    with pytest.raises(InputError, match=r"cut short|cannot be read"):
        read_frames(str(cut), Video())


@pytest.mark.parametrize("container", ["wav", "mkv", "mp4", "flac", "avi"])
def test_audio_that_is_cut_short_is_refused(tmp_path: Path, container: str) -> None:
    whole, cut = tmp_path / f"whole.{container}", tmp_path / f"cut.{container}"
    codec = {"wav": "pcm_s16le", "flac": "flac", "avi": "pcm_s16le"}.get(container, "aac")
    noise = np.random.default_rng(0).integers(-9_000, 9_000, (1, 48_000), dtype=np.int16)
    options = {"movflags": "faststart"} if container == "mp4" else {}
    with av.open(str(whole), "w", options=options) as writing:
        track = writing.add_stream(codec, rate=16_000, layout="mono")
        assert isinstance(track, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.rate = 16_000
        writing.mux(track.encode(frame))
        writing.mux(track.encode(None))
    assert read_audio(str(whole), 16_000).seconds == pytest.approx(3.0, abs=0.1)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match="cut short"):
        read_audio(str(cut), 16_000)


def test_files_decoded_side_by_side_give_what_each_gives_alone(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.mp4" for number in range(4)]
    for number, file in enumerate(files):
        write_mp4(file, [(60 * number, 255, 0)] * 5, tone=200.0 * (number + 1))
    specs: list[Spec] = [Audio(rate=16_000), Video(count=3)]
    tasks = [(str(file), spec) for file in files for spec in specs] * 3
    alone = [decode(*task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda task: decode(*task), tasks))
    assert list(map(content, together)) == list(map(content, alone))
    assert len(set(map(content, alone))) == len(files) * len(specs)


def content(media: Media) -> bytes:
    if isinstance(media, Waveform):
        return media.samples.tobytes()
    assert isinstance(media, Frames)
    return media.pixels.tobytes() + media.times.tobytes()
