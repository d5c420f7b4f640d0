"""A real face and real speech through the shipped registry, and files that cannot be used.

The photograph is scikit-image's astronaut (NASA, public domain); the speech is data/ (its
NOTICE.md says where it comes from and what is said).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soxr
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from skimage import data
from toy_clips import write_mp4, write_samples

from mercore.cli import main
from mercore.decode import read_audio
from mercore.media import Frames, Media, Text, Waveform
from mercore.project import Project
from mercore.reader import Upstream

Pixels = NDArray[np.uint8]

HERE = Path(__file__).parent
REGISTRY = HERE.parent / "registry.yaml"
SPEECH = HERE / "data" / "sense_and_sensibility_01_0870.flac"
SPOKEN = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)
SECONDS = 7.1
EYES, MOUTH = (226, 103), (223, 140)
"""The points between the eyes and between the corners of the mouth in the photograph: x, y."""
DIMS = {"speech": 384, "words": 384, "face": 256, "prosody": 210}

UNREADABLE = dict.fromkeys(("empty", "cut", "notes"), "cannot be read as media: ")
NO_AUDIO = {**UNREADABLE, "silent": "the audio is silent (every sample is zero)"}
NO_FACE = {
    **UNREADABLE,
    "pictureless": "the video track has no frames",
    "plain": "mtcnn: no face in ",
}
FAILURES = {
    "noisy_text": ("", NO_AUDIO),
    "denoised": ("", NO_AUDIO),
    "transcript": ("stream 'denoised' failed: ", NO_AUDIO),
    "faces": ("", NO_FACE),
    "speech": ("", NO_AUDIO),
    "words": ("stream 'transcript' failed: stream 'denoised' failed: ", NO_AUDIO),
    "face": ("stream 'faces' failed: ", NO_FACE),
    "prosody": ("stream 'denoised' failed: ", NO_AUDIO),
}
"""Where a reason comes from, and how it begins, by stream or feature and by sample."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the registry that ships."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    """Eileen Collins, 512 x 512 RGB."""
    picture: Pixels = data.astronaut()  # type: ignore[no-untyped-call]
    return picture


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    return read_audio(str(SPEECH), 16_000).samples


def write_clip(
    path: Path, pictures: Sequence[Pixels], samples: NDArray[np.float32], **options: str
) -> Path:
    """Write four pictures a second as H.264 and mono audio at 16 kHz as AAC."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=4, options={"preset": "veryfast"})
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        audio.bit_rate = 64_000
        video.height, video.width = pictures[0].shape[:2] if pictures else (64, 64)
        video.pix_fmt = "yuv420p"
        sound = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        sound.rate, sound.time_base, sound.pts = 16_000, Fraction(1, 16_000), 0
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return (samples.clip(-1, 1) * 32767).astype(np.int16)


def write_manifest(folder: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write rows of id, video and audio, all of the split ``test``."""
    lines = [f"{name},test,{video},{audio}" for name, video, audio in rows]
    (folder / "manifest.csv").write_text("\n".join(["id,split,video,audio", *lines]) + "\n")


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def stored(project: Project, stream: str, sample: str) -> tuple[Media, dict[str, Any]]:
    """Return the medium and the record of one sample of a derived stream."""
    upstream = Upstream.of(project.pipeline.streams[stream], project.store)
    (row,) = [found for found in project.manifest.samples if found.id == sample]
    return upstream.read(row), dict(upstream.entries[sample].record)


def words_of(media: Media) -> list[str]:
    """Return the words in lower case, with the one abbreviation said in full."""
    assert isinstance(media, Text)
    words = re.findall(r"[a-z']+", media.content.lower())
    return ["mister" if word == "mr" else word for word in words]


def place_of(crop: Pixels, picture: Pixels) -> tuple[float, float, float, int]:
    """Return score in [-1, 1], x and y of the middle, and side of the best match in the picture."""
    best = (-1.0, 0.0, 0.0, 0)
    for side in range(96, 240, 8):
        scaled = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        matches = cv2.matchTemplate(picture, scaled, cv2.TM_CCOEFF_NORMED)
        _, score, _, (left, top) = cv2.minMaxLoc(matches)
        best = max(best, (float(score), left + side / 2, top + side / 2, side))
    return best


def failures(row: Mapping[str, Any]) -> dict[str, str]:
    """Return sample to reason of one stream or feature of ``mer status --json``."""
    return {
        sample: failure["reason"] for failure in row["failures"] for sample in failure["samples"]
    }


def write_odd_files(
    folder: Path, photograph: Pixels, speech: NDArray[np.float32]
) -> list[tuple[str, str, str]]:
    """Write a good clip, and others that lack something or are unusual; return their rows."""
    start = speech[:48_000]
    good = write_clip(folder / "good.mp4", [photograph] * 12, start).read_bytes()
    write_clip(folder / "silent.mp4", [photograph] * 12, np.zeros_like(start))
    write_clip(folder / "pictureless.mkv", [], start)
    write_mp4(folder / "plain.mp4", [(40, 90, 160)] * 10, tone=300)
    # The index of an MP4 file is at its end: half of the file has none.
    (folder / "cut.mp4").write_bytes(good[: len(good) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.mp4").write_bytes(b"not a clip " * 200)
    write_samples(folder / "blink.wav", pcm(speech[16_000:16_800])[None], 16_000)
    high, higher = (soxr.resample(speech, 16_000, rate, quality="VHQ") for rate in (44_100, 48_000))
    write_samples(folder / "stereo.wav", np.stack([pcm(high), pcm(0.2 * high)]), 44_100)
    write_samples(folder / "studio.wav", pcm(higher)[None], 48_000)
    clips = sorted([*folder.glob("*.mp4"), *folder.glob("*.mkv")])
    voices = [(path.stem, "good.mp4", path.name) for path in sorted(folder.glob("*.wav"))]
    return [*((path.stem, path.name, "") for path in clips), *voices]


def test_a_photograph_of_a_face_and_recorded_speech_are_extracted(
    folder: Path, photograph: Pixels, speech: NDArray[np.float32]
) -> None:
    write_clip(folder / "clip.mp4", [photograph] * round(4 * SECONDS), speech)
    write_manifest(folder, [("clip", "clip.mp4", "")])
    result = mer("extract")
    assert result.exit_code == 0, result.output
    project = Project.open()
    check_speech(project)
    check_faces(project, photograph)
    assert set(DIMS) == set(project.pipeline.features)
    for name, dim in DIMS.items():
        row = project.store[name].matrix(["clip"])
        assert row.shape == (1, dim)
        assert row.dtype == np.float32
        assert np.isfinite(row).all()
        assert row.std() > 0


def check_speech(project: Project) -> None:
    transcript, heard = stored(project, "transcript", "clip")
    assert words_of(transcript) == SPOKEN.split()  # no error allowed: the recording is clean
    assert heard["confidence"] > 0.8
    denoised, chosen = stored(project, "denoised", "clip")
    assert chosen["decision"] in ("denoised", "original")  # never what was taken away
    assert words_of(Text(chosen["texts"]["noisy"])) == SPOKEN.split()
    assert isinstance(denoised, Waveform)
    assert denoised.seconds == pytest.approx(SECONDS, abs=0.1)  # AAC fills up its last frame


def check_faces(project: Project, photograph: Pixels) -> None:
    faces, found = stored(project, "faces", "clip")
    assert isinstance(faces, Frames)
    assert found["faces"] == found["frames"] == len(faces.pixels)
    assert found["score"] > 0.99
    assert faces.times.min() > 0
    assert faces.times.max() < SECONDS
    score, x, y, side = place_of(faces.pixels[0], photograph)
    assert score > 0.8
    assert (x, y) == pytest.approx(EYES, abs=10)  # aligned crops have the eyes near the middle
    assert y + side / 2 > MOUTH[1] + 20
    assert 110 < side < 180  # the face is about 87 x 110 pixels
    # The picture stands still; only its compression differs.
    assert np.abs(faces.pixels - faces.pixels[0].astype(int)).mean() < 4


def test_files_that_cannot_be_used_fail_alone_and_for_the_right_reason(
    folder: Path, photograph: Pixels, speech: NDArray[np.float32]
) -> None:
    rows = write_odd_files(folder, photograph, speech)
    write_manifest(folder, rows)
    result = mer("extract")
    assert result.exit_code == 3, result.output
    status = {row["name"]: row for row in json.loads(mer("status", "--json").stdout)["current"]}
    assert set(status) == set(FAILURES)
    for name, (origin, reasons) in FAILURES.items():
        found = failures(status[name])
        assert status[name]["done"] == len(rows) == 10
        assert {sample: found[sample][: len(origin + reasons[sample])] for sample in found} == {
            sample: origin + reason for sample, reason in reasons.items()
        }

    project = Project.open()
    for name, dim in DIMS.items():
        usable = [sample for sample, _, _ in rows if sample not in FAILURES[name][1]]
        values = project.store[name].matrix(usable)
        assert values.shape == (len(usable), dim)
        assert np.isfinite(values).all()
    for sample in ("stereo", "studio"):
        assert words_of(stored(project, "transcript", sample)[0]) == SPOKEN.split()
    assert words_of(stored(project, "transcript", "blink")[0]) == []
