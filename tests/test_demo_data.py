"""The bundled data set: what its manifest promises, and that it can be made again."""

from __future__ import annotations

import csv
import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

DEMO = Path(__file__).parents[1] / "examples" / "demo"
CLASSES = {"neutral", "angry", "happy", "sad", "worried", "surprise"}
SEED = 2024

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    with (DEMO / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def maker() -> Iterator[Any]:
    """The generator, imported as its script imports it, and forgotten afterwards."""
    pytest.importorskip("cv2")
    before = set(sys.modules)
    sys.path.insert(0, str(DEMO))
    try:
        yield importlib.import_module("make_clips")
    finally:
        sys.path.remove(str(DEMO))
        for path in DEMO.glob("*.py"):
            if path.stem not in before:
                sys.modules.pop(path.stem, None)


def test_splits_and_classes_are_balanced(rows: Rows) -> None:
    splits = Counter(row["split"] for row in rows)
    assert splits == {"train": 150, "unlabelled": 40, "test": 45, "test_noise": 45}
    for split in ("train", "test", "test_noise"):
        labels = Counter(row["label"] for row in rows if row["split"] == split)
        assert set(labels) == CLASSES
        assert max(labels.values()) - min(labels.values()) <= 1
    assert {row["label"] for row in rows if row["split"] == "unlabelled"} == {""}


def test_identities_belong_to_one_split(rows: Rows) -> None:
    splits = {(row["identity"], row["split"]) for row in rows}
    identities = {identity for identity, _ in splits}
    assert len(identities) == len(splits) >= 24


def test_no_sentence_of_the_tests_is_learnt(rows: Rows) -> None:
    tested = {row["sentence"] for row in rows if row["split"].startswith("test")}
    learnt = {row["sentence"] for row in rows if not row["split"].startswith("test")}
    assert not tested & learnt


def test_manifest_lists_the_clips_there_are(rows: Rows) -> None:
    assert len({row["id"] for row in rows}) == len(rows) == 280
    assert {DEMO / row["video"] for row in rows} == set((DEMO / "clips").iterdir())


def test_clips_are_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in (DEMO / "clips").iterdir()) <= 5_000_000


def test_everything_says_that_it_is_synthetic(rows: Rows) -> None:
    assert {row["synthetic"] for row in rows} == {"true"}
    for row in rows:
        with av.open(str(DEMO / row["video"])) as container:
            assert container.metadata["title"] == "mercore-synthetic-demo"
            assert container.metadata["comment"].startswith("Synthetic")


def test_clips_have_one_format(rows: Rows) -> None:
    for row in rows:
        with av.open(str(DEMO / row["video"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
            assert (video.width, video.height, video.average_rate) == (192, 192, Fraction(25, 2))
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16_000, 1)
            assert 20 <= video.frames <= 30


def test_manifest_is_what_the_generator_plans(maker: Any, tmp_path: Path) -> None:
    maker.write_manifest(maker.plan_clips(SEED), tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_bytes() == (DEMO / "manifest.csv").read_bytes()


@pytest.mark.parametrize("name", ["train_061", "test_020", "test_noise_007"])
def test_clip_can_be_made_again(maker: Any, name: str) -> None:
    pytest.importorskip("espeakng_loader")
    (clip,) = (clip for clip in maker.plan_clips(SEED) if clip.id == name)
    pictures, sound = maker.make_clip(clip, SEED)
    shown, heard = decoded(DEMO / "clips" / f"{name}.mp4")
    assert shown.shape == pictures.shape
    assert mean_error(shown, pictures) < 3.0  # grey levels that the codec may cost
    assert mean_error(shown, pictures[::-1]) > mean_error(shown, pictures)
    assert signal_to_noise(sound, heard[: len(sound)]) > 8.0  # another clip's is below 0


def test_clip_is_the_same_when_made_twice(maker: Any) -> None:
    pytest.importorskip("espeakng_loader")
    clip = maker.plan_clips(SEED)[-1]  # noisy: the most randomness
    first, second = maker.make_clip(clip, SEED), maker.make_clip(clip, SEED)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def decoded(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.stack(pictures).astype(np.uint8), np.concatenate(sound).astype(np.float32)


def mean_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(np.float64) - b).mean())


def signal_to_noise(signal: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return dB of the signal over its difference from the other."""
    return float(10 * np.log10(np.sum(signal**2) / np.sum((signal - other) ** 2)))
