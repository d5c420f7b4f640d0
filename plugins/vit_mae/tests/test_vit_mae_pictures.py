"""The pictures that `vit_mae` reads: frames prepared as by Pillow's users, grids, chunks, options.

References: torchvision's transforms on Pillow's pictures, transformers' Pillow processor, and for
grids plain pasting by Pillow.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vit_mae as tiny
import torch
from PIL import Image
from pydantic import ValidationError
from transformers import ViTImageProcessorPil
from vit_mae_cases import apart, clip, encode, prepared, wrapped

from mercore import InputError
from mercore.components import Noted
from mercore.media import Frames, Text, Video
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD, normalised
from mercore.testing import EncoderTests
from mercore_vit_mae import PUBLISHED, VitMAE, _model
from mercore_vit_mae._pictures import picture, shown


@cache
def tiny_folder() -> Path:
    return tiny.write(Path(tempfile.mkdtemp(prefix="tiny-vit-mae-")))


@cache
def tuned_file() -> Path:
    return wrapped(tiny.finetuned())(Path(tempfile.mkdtemp(prefix="tiny-vit-mae-")))


def only(frames: Frames, *numbers: int) -> Frames:
    return Frames(frames.pixels[list(numbers)], frames.times[list(numbers)])


@pytest.mark.parametrize("shape", [(112, 112), (300, 300), (120, 160), (160, 90), (116, 100)])
@pytest.mark.parametrize(("crop", "shorter"), [(1.0, 224), (0.9, 248), (0.875, 256)])
def test_frames_are_prepared_as_by_torchvision(
    shape: tuple[int, int], crop: float, shorter: int
) -> None:
    media = clip(2, 3, *shape)
    own = np.stack([picture(frame[None], 224, crop) for frame in media.pixels])
    values = normalised(torch.from_numpy(own), torch.float32)
    assert apart(values.numpy(), prepared(media, shorter)) <= 1e-5


def test_square_frames_are_prepared_as_by_transformers() -> None:
    media = clip(3)
    processor = ViTImageProcessorPil(
        size={"height": 224, "width": 224},
        resample=Image.Resampling.BICUBIC,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    expected = processor(list(media.pixels), return_tensors="np")["pixel_values"]
    own = np.stack([picture(frame[None], 224, 1.0) for frame in media.pixels])
    values = normalised(torch.from_numpy(own), torch.float32)
    assert apart(values.numpy(), expected) <= 1e-5


def test_crop_changes_what_is_seen() -> None:
    whole, cropped = (encode(tiny_folder(), clip(1), crop=crop) for crop in (1.0, 0.9))
    assert apart(whole, cropped) > 1e-3


def test_mean_and_deviation_are_the_checkpoints(tmp_path: Path) -> None:
    """With 0.5 for each, pixels p become what (p / 255 - .5) / .5 is: as ImageNet's of others."""
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    copy = shutil.copytree(tiny_folder(), tmp_path / "copy")
    tiny.dump(copy / "preprocessor_config.json", tiny.PREPROCESSOR | half)
    asked = encode(copy, clip(2))
    assert apart(asked, encode(tiny_folder(), clip(2))) > 1e-3
    (copy / "preprocessor_config.json").unlink()
    assert apart(encode(copy, clip(2)), encode(tiny_folder(), clip(2))) == 0
    timm = tiny.write(tmp_path / "timm", "timm")
    colours = {"mean": [0.5] * 3, "std": [0.5] * 3}
    tiny.dump(timm / "config.json", tiny.CONFIGS["timm"] | {"pretrained_cfg": colours})
    assert apart(encode(timm, clip(2)), asked) == 0
    tiny.dump(timm / "preprocessor_config.json", tiny.PREPROCESSOR)  # the closer to the user
    assert apart(encode(timm, clip(2)), encode(tiny_folder(), clip(2))) == 0


# Grids


@pytest.mark.parametrize("n", [2, 3, 4, 5, 14])
@pytest.mark.parametrize("side", [224, 100])
def test_a_grid_is_the_frames_pasted_row_by_row(n: int, side: int) -> None:
    media = clip(n * n, 1)
    own = picture(media.pixels, side, 1.0)
    assert own.shape == (side, side, 3)
    cell = -(-side // n)
    expected = Image.new("RGB", (side, side))
    for number in range(n * n):
        frame = Image.fromarray(media.pixels[number]).resize((cell, cell), Image.Resampling.BICUBIC)
        row, column = divmod(number, n)
        expected.paste(frame, (side * column // n, side * row // n))
    assert np.array_equal(own, np.asarray(expected))


def test_a_grid_is_encoded_as_the_picture_that_it_is() -> None:
    media = clip(9)
    pasted = Frames(picture(media.pixels, 224, 1.0)[None], np.zeros(1))
    own = encode(tiny_folder(), media, grid=3)
    assert apart(own, encode(tiny_folder(), pasted)) == 0
    other = encode(tiny_folder(), only(media, *range(8, -1, -1)), grid=3)
    assert apart(own, other) > 1e-3  # the order of time is seen


@pytest.mark.parametrize(
    ("frames", "most", "expected"),
    [
        (4, None, [[0, 1, 2, 3]]),
        (8, None, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (1, None, [[0, 0, 0, 0]]),
        (2, None, [[0, 0, 1, 1]]),
        (3, None, [[0, 1, 1, 2]]),
        (6, None, [[0, 1, 1, 2], [3, 4, 4, 5]]),
        (8, 1, [[1, 3, 5, 7]]),
        (100, 2, [[6, 18, 31, 43], [56, 68, 81, 93]]),
        (3, 5, [[0, 1, 1, 2]]),
        (6, 2, [[0, 1, 1, 2], [3, 4, 4, 5]]),
    ],
)
def test_frames_fill_grids_evenly(frames: int, most: int | None, expected: list[list[int]]) -> None:
    assert shown(frames, 4, most).tolist() == expected


@pytest.mark.parametrize("cells", [1, 4, 9])
@pytest.mark.parametrize("most", [None, 1, 3])
def test_no_frame_is_lost_without_need_and_none_is_favoured(cells: int, most: int | None) -> None:
    for frames in range(1, 60):
        plan = shown(frames, cells, most)
        flat = plan.ravel()
        counts = np.bincount(flat, minlength=frames)
        assert plan.shape[1] == cells
        assert len(plan) == min(-(-frames // cells), most or frames)
        assert (np.diff(flat) >= 0).all()
        used = counts[counts > 0]
        assert used.max() - used.min() <= 1
        assert len(used) == min(frames, plan.size)


def test_repeated_and_left_out_frames_are_in_the_record() -> None:
    found = encode(tiny_folder(), clip(6), grid=2)
    assert isinstance(found, Noted)
    assert found.record == {"frames": 6, "cells": 8}
    exact = encode(tiny_folder(), only(clip(6), 0, 1, 1, 2, 3, 4, 4, 5), grid=2)
    assert apart(found.value, exact) == 0
    found = encode(tiny_folder(), clip(6), pictures=2)
    assert found.record == {"frames": 6, "cells": 2}
    assert apart(found.value, encode(tiny_folder(), only(clip(6), 1, 4))) == 0


def test_needs_are_what_the_pictures_take() -> None:
    assert VitMAE().needs() == {"frames": Video()}
    assert VitMAE(grid=3).needs() == {"frames": Video()}
    assert VitMAE(pictures=8).needs() == {"frames": Video(count=8)}
    assert VitMAE(pictures=2, grid=3).needs() == {"frames": Video(count=18)}


# Chunks and batches


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    media = [clip(count, count) for count in (5, 1, 7)]
    encoder = VitMAE(checkpoint=str(tiny_folder())).load("cpu", "float32")
    whole: Any = encoder([{"frames": frames} for frames in media])
    assert [len(matrix) for matrix in whole] == [5, 1, 7]
    monkeypatch.setitem(_model._PASS, "cpu", 3 * 4 * 50 * 4 * tiny.DIM)  # three pictures a pass
    small: Any = VitMAE(checkpoint=str(tiny_folder())).load("cpu", "float32")
    assert small._at_once == 3
    for one, other in zip(whole, small([{"frames": frames} for frames in media]), strict=True):
        assert apart(one, other) <= 1e-5
    for one, frames in zip(whole, media, strict=True):
        assert apart(one, encode(tiny_folder(), frames)) <= 1e-5


def test_only_the_blocks_needed_are_built() -> None:
    for layers, blocks in [((-1,), 3), ((1,), 1), ((0, 2), 2), ((0,), 1)]:
        encoder: Any = VitMAE(checkpoint=str(tiny_folder()), layers=layers)
        net = encoder.load("cpu", "float32")._net("cpu", torch.float32)
        assert len(net.vit.blocks) == blocks


def test_an_empty_batch_gives_nothing() -> None:
    assert list(VitMAE(checkpoint=str(tiny_folder())).load("cpu", "float32")([])) == []


@pytest.mark.parametrize(
    ("media", "says"), [(clip(0), "no frame, expected at least one"), (Text("a"), "holds Text")]
)
def test_what_holds_no_frames_is_refused(media: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        encode(tiny_folder(), media)


# Options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grid": 2, "crop": 0.9}, "crop goes with grid: 1 only"),
        ({"grid": 0}, "greater than or equal to 1"),
        ({"crop": 1.1}, "less than or equal to 1"),
        ({"pictures": 0}, "greater than or equal to 1"),
        ({"layers": ()}, "at least 1 item"),
        ({"pool": "max"}, "'cls' or 'mean'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VitMAE(**options)


def test_the_width_is_known_of_the_published_network() -> None:
    assert VitMAE().checkpoint == PUBLISHED
    assert VitMAE().dim == 768
    assert VitMAE(checkpoint="somewhere/else").dim is None


def test_identity_is_the_weights_not_their_place(tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_folder(), tmp_path / "copy")
    one, other = (VitMAE(checkpoint=str(path)).identity() for path in (tiny_folder(), copy))
    assert one == other
    tiny.write(copy, seed=1)
    assert VitMAE(checkpoint=str(copy)).identity() != one


# Conformance


class TestVitMAE(EncoderTests):
    component = VitMAE(
        checkpoint=str(tiny_folder()), layers=(-3, -1), reduce="sum", pool="cls", crop=0.9
    )


class TestGrids(EncoderTests):
    component = VitMAE(checkpoint=str(tiny_folder()), grid=2, pictures=3)


class TestFinetuned(EncoderTests):
    component = VitMAE(checkpoint=str(tuned_file()), heads=tiny.HEADS)
    long = 0.2
