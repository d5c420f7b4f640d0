"""`transformers_video` beside the library's own networks, one clip at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
import transformers
from PIL import Image

from mercore.components import Noted
from mercore.errors import RegistryError
from mercore.media import FloatArray, Frames, Video
from mercore.testing import EncoderTests
from mercore_transformers import TransformersVideo

hf: Any = transformers  # it is typed in part only

FAMILIES = sorted(tiny.VIDEOS)
CLASS_TOKEN = {"vivit": 1, "timesformer": 1, "videomae": 0}


def clip(count: int, seed: int = 0) -> Frames:
    numbers = np.random.default_rng(seed)
    pixels = numbers.integers(0, 256, (count, 5, 7, 3), np.uint8)
    return Frames(pixels.repeat(8, axis=1).repeat(8, axis=2), np.arange(count) / 25)


def encode(family: str, shown: Frames, **options: Any) -> Any:
    options = {"frames": 4, **options}
    component = TransformersVideo(checkpoint=str(tiny.folder("video", family)), **options)
    return component.load("cpu", "float32")([{"frames": shown}])[0]


@torch.inference_mode()
def output(family: str, frames: Frames) -> Any:
    """Return what the library's own network gives for the clip alone."""
    folder = tiny.folder("video", family)
    processor: Any = {"vivit": hf.VivitImageProcessor}.get(
        family, hf.VideoMAEImageProcessorPil
    ).from_pretrained(folder)
    model: Any = hf.AutoModel.from_pretrained(folder).eval()
    given = processor([Image.fromarray(picture) for picture in frames.pixels], return_tensors="pt")
    return model(**given, output_hidden_states=True)


def apart(found: Any, expected: FloatArray) -> float:
    """Return the largest difference as a share of the largest value."""
    own = found.value if isinstance(found, Noted) else found
    assert own.shape == expected.shape
    assert own.dtype == np.float32
    return float(np.abs(own - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_row_is_the_mean_of_the_patches_of_the_librarys_output(family: str) -> None:
    tokens = output(family, clip(4)).last_hidden_state[0].numpy()
    expected = tokens[CLASS_TOKEN[family] :].mean(0, keepdims=True)
    assert apart(encode(family, clip(4)), expected) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_token_is_there_or_refused(family: str) -> None:
    if not CLASS_TOKEN[family]:
        with pytest.raises(RegistryError, match="has no class token; use mean"):
            encode(family, clip(4), pool="cls")
        return
    expected = output(family, clip(4)).last_hidden_state[0, :1].numpy()
    assert apart(encode(family, clip(4), pool="cls"), expected) <= 1e-5


@pytest.mark.parametrize("family", ["videomae", "vivit"])
def test_a_step_of_time_is_the_mean_of_its_patches(family: str) -> None:
    tokens = output(family, clip(4)).last_hidden_state[0].numpy()[CLASS_TOKEN[family] :]
    expected = tokens.reshape(2, 16, -1).mean(1)  # 2 steps of 4 x 4 patches
    assert apart(encode(family, clip(4), pool="steps"), expected) <= 1e-5


def test_the_rows_of_steps_follow_time() -> None:
    """The first two frames change the embedding of the first step alone."""
    one, two = clip(4), clip(4, seed=1)
    mixed = Frames(np.concatenate([two.pixels[:2], one.pixels[2:]]), one.times)
    before, after = (encode("vivit", each, pool="steps", layers=(0,)) for each in (one, mixed))
    assert not np.allclose(before[0], after[0])
    assert np.allclose(before[1], after[1], atol=1e-6)


def test_a_network_without_rows_for_steps_says_so() -> None:
    with pytest.raises(RegistryError, match="has no rows for steps of time"):
        encode("timesformer", clip(4), pool="steps")


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_librarys_hidden_states(family: str) -> None:
    given = output(family, clip(4))
    states = [*given.hidden_states[:-1], given.last_hidden_state]
    before = CLASS_TOKEN[family]
    one, two = (states[place][0, before:].mean(0).numpy()[None] for place in (0, -1))
    assert apart(encode(family, clip(4), layers=(0, -1)), (one + two) / 2) <= 1e-5
    beside = encode(family, clip(4), layers=(0, -1), reduce="concat")
    assert apart(beside, np.concatenate([one, two], 1)) <= 1e-5


def test_frames_of_a_short_clip_are_repeated_and_noted() -> None:
    short = clip(2)
    filled = Frames(short.pixels[[0, 0, 1, 1]], np.arange(4) / 25)
    found = encode("videomae", short)
    assert apart(found, encode("videomae", filled)) == 0
    assert found.record == {"frames": 2, "read": 4}


def test_another_number_of_frames_is_refused_with_the_one_to_write() -> None:
    with pytest.raises(RegistryError, match="reads 4 of a clip; write `frames: 4`"):
        encode("videomae", clip(4), frames=16)


def test_the_frames_are_spread_over_the_clip() -> None:
    component = TransformersVideo(checkpoint="google/vivit-b-16x2", frames=32)
    assert component.needs() == {"frames": Video(count=32)}


class TestVideoMAE(EncoderTests):
    component = TransformersVideo(
        checkpoint=str(tiny.folder("video", "videomae")), frames=4, pool="steps"
    )
