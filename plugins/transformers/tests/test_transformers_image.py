"""`transformers_image` beside the library's own networks, one picture at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
import transformers
from PIL import Image
from pydantic import ValidationError

from mercore.errors import InputError, RegistryError
from mercore.media import FloatArray, Frames, Video
from mercore.testing import EncoderTests
from mercore_transformers import TransformersImage
from mercore_transformers._image import ImageEncoder

hf: Any = transformers  # it is typed in part only

FAMILIES = sorted(tiny.IMAGES)
TOKENS = {"vit": 1, "clip": 1, "dinov2": 1, "dinov2_with_registers": 5}
"""Class token and registers, before those of the patches."""


def clip(count: int, seed: int = 0, height: int = 40, width: int = 56) -> Frames:
    numbers = np.random.default_rng(seed)
    pixels = numbers.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return Frames(pixels.repeat(8, axis=1).repeat(8, axis=2), np.arange(count) / 25)


def encoder(family: str, **options: Any) -> ImageEncoder:
    component = TransformersImage(checkpoint=str(tiny.folder("image", family)), **options)
    loaded = component.load("cpu", "float32")
    assert isinstance(loaded, ImageEncoder)
    return loaded


def encode(family: str, frames: Frames, **options: Any) -> FloatArray:
    return encoder(family, **options)([{"frames": frames}])[0]


@torch.inference_mode()
def output(family: str, picture: Any) -> Any:
    """Return what the library's own network gives for one picture alone."""
    folder = tiny.folder("image", family)
    processor: Any = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model: Any = hf.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "vision_model", model)
    given = processor(Image.fromarray(picture), return_tensors="pt")
    return model(**given, output_hidden_states=True)


def matrix(state: torch.Tensor) -> FloatArray:
    """Return the rows of one picture; of a feature map a row a place."""
    return np.asarray((state[0].flatten(1).T if state.dim() == 4 else state[0]).numpy())


def apart(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest difference as a share of the largest value."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_the_mean_of_the_patches_of_the_librarys_output(family: str) -> None:
    frames = clip(3)
    outputs = [matrix(output(family, picture).last_hidden_state) for picture in frames.pixels]
    before = TOKENS.get(family, 0)
    assert (
        apart(encode(family, frames), np.stack([one[before:].mean(0) for one in outputs])) <= 1e-5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pooler_is_the_librarys(family: str) -> None:
    frames = clip(2)
    pooled = [output(family, picture).pooler_output.numpy() for picture in frames.pixels]
    expected = np.concatenate(pooled).reshape(2, -1)
    assert apart(encode(family, frames, pool="pooler"), expected) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_token_is_there_or_refused(family: str) -> None:
    frames = clip(1)
    if family not in TOKENS:
        with pytest.raises(RegistryError, match="has no class token; use mean or pooler"):
            encode(family, frames, pool="cls")
        return
    expected = matrix(output(family, frames.pixels[0]).last_hidden_state)[:1]
    assert apart(encode(family, frames, pool="cls"), expected) <= 1e-5


@pytest.mark.parametrize("family", sorted(TOKENS))
def test_layers_are_the_librarys_hidden_states(family: str) -> None:
    frames = clip(1)
    given = output(family, frames.pixels[0])
    states = [*given.hidden_states[:-1], given.last_hidden_state]
    one, two = (matrix(states[place])[TOKENS[family] :].mean(0)[None] for place in (1, -1))
    assert apart(encode(family, frames, layers=(1, -1)), (one + two) / 2) <= 1e-5
    assert apart(encode(family, frames, layers=(1, -1), reduce="sum"), one + two) <= 1e-5
    beside = np.concatenate([one, two], 1)
    assert apart(encode(family, frames, layers=(1, -1), reduce="concat"), beside) <= 1e-5


def test_stages_of_other_sizes_are_not_combined() -> None:
    with pytest.raises(RegistryError, match="cannot be combined"):
        encode("convnext", clip(1), layers=(-2, -1))


def test_a_clip_of_many_frames_runs_in_parts() -> None:
    frames = clip(19)
    alone = [encode("vit", Frames(frames.pixels[[n]], frames.times[[n]])) for n in range(19)]
    assert apart(encode("vit", frames), np.concatenate(alone)) <= 1e-5


@pytest.mark.parametrize("name", ["ViTForImageClassification", "Dinov2ForImageClassification"])
def test_heads_are_left_alone(name: str, tmp_path: Path) -> None:
    family = name.removesuffix("ForImageClassification")
    model = tiny.shaken(getattr(hf, name)(getattr(hf, f"{family}Config")(**tiny.PICTURE)))
    model.save_pretrained(tmp_path)
    processor: Any = hf.AutoImageProcessor.from_pretrained(
        tiny.folder("image", family.lower()), backend="pil"
    )
    processor.save_pretrained(tmp_path)
    frames = clip(1)
    encoder = TransformersImage(checkpoint=str(tmp_path), pool="cls").load("cpu", "float32")
    (found,) = encoder([{"frames": frames}])
    with torch.inference_mode():
        given = processor(Image.fromarray(frames.pixels[0]), return_tensors="pt")
        expected = model.base_model(**given).last_hidden_state[:, 0].numpy()
    assert isinstance(found, np.ndarray)
    assert apart(found, expected) <= 1e-5


def test_which_frames_to_look_at_is_an_option() -> None:
    known: dict[str, Any] = {"checkpoint": "a/b"}
    assert TransformersImage(**known).needs() == {"frames": Video()}
    assert TransformersImage(**known, count=8).needs() == {"frames": Video(count=8)}
    assert TransformersImage(**known, rate=2.0).needs() == {"frames": Video(rate=2.0)}
    with pytest.raises(ValidationError, match="count and rate do not go together"):
        TransformersImage(**known, count=8, rate=2.0)
    with pytest.raises(ValidationError, match="reads the last layer alone"):
        TransformersImage(**known, layers=(0,), pool="pooler")


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="holds no frame"):
        encode("vit", clip(0))


class TestClip(EncoderTests):
    component = TransformersImage(checkpoint=str(tiny.folder("image", "clip")), pool="cls")


class TestConvNext(EncoderTests):
    component = TransformersImage(checkpoint=str(tiny.folder("image", "convnext")))
