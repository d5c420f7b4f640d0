"""`onnx` beside torch, on networks that were exported from it."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
import torch
from PIL import Image
from pydantic import ValidationError

from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, InputError, RegistryError, RunError
from mercore.fingerprints import describe
from mercore.media import Audio, FloatArray, Frames, Text, Video, Waveform, Words
from mercore.testing import EncoderTests
from mercore_onnx import OnnxEncoder

RATE = 8_000
AUDIO = {"rate": RATE}
PICTURES = {"size": 32}
BATCH_AND_LENGTH = {0: "batch", 1: "length"}


@cache
def folder(what: str) -> Path:
    """Return a folder with a network exported into it as ``model.onnx``."""
    path = Path(tempfile.mkdtemp())
    EXPORTS[what](path / "model.onnx")
    return path


def _speech(file: Path, network: torch.nn.Module | None = None) -> None:
    tiny.export(
        tiny.made(network or tiny.Speech()),
        [torch.zeros(1, 2000)],
        file,
        {"audio": BATCH_AND_LENGTH},
        ["frames", "loudness"],
    )


def _masked(file: Path) -> None:
    tiny.export(
        tiny.made(tiny.Masked()),
        [torch.zeros(1, 2000), torch.ones(1, 2000, dtype=torch.int64), torch.ones(1).long()],
        file,
        {"audio": BATCH_AND_LENGTH, "mask": BATCH_AND_LENGTH, "length": {0: "batch"}},
    )


def _single(file: Path) -> None:
    tiny.export(tiny.made(tiny.Single()), [torch.zeros(2000)], file, {"audio": {0: "length"}})


def _sight(file: Path, last: bool = False, fixed: int | None = None) -> None:
    shape = (32, 32, 3) if last else (3, 32, 32)
    axes = {} if fixed else {0: "batch"}
    example = torch.zeros(fixed or 1, *shape)
    network = tiny.made(tiny.Sight(last))
    tiny.export(network, [example], file, {"pictures": axes}, ["cells", "mean"])


def _raw(file: Path) -> None:
    example = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    tiny.export(tiny.made(tiny.Raw()), [example], file, {"pictures": {0: "batch"}})


def _reading(file: Path) -> None:
    example = torch.ones(1, 4, dtype=torch.int64)
    names = ("input_ids", "attention_mask", "token_type_ids")
    network = tiny.made(tiny.Reading())
    tiny.export(network, [example] * 3, file, dict.fromkeys(names, BATCH_AND_LENGTH))
    (file.parent / "tokenizer.json").write_text(tiny.TOKENIZER)


EXPORTS: dict[str, Any] = {
    "speech": _speech,
    "masked": _masked,
    "single": _single,
    "sight": _sight,
    "sight last": lambda file: _sight(file, last=True),
    "sight of one": lambda file: _sight(file, fixed=1),
    "sight of two": lambda file: _sight(file, fixed=2),
    "raw": _raw,
    "reading": _reading,
}


def encoder_of(checkpoint: object, **options: Any) -> OnnxEncoder:
    return OnnxEncoder(checkpoint=str(checkpoint), **options)


def sound(samples: int, seed: int = 0) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * noise + 0.05).astype(np.float32)


def clip(count: int, height: int = 40, width: int = 50, seed: int = 0) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    return Frames(pixels, np.arange(count) / 10)


SOUND, CLIP, WORDS = sound(3_001), clip(3), Text("it was raining all day")


def encode(what: str, media: Any, **options: Any) -> Any:
    encoder = encoder_of(checkpoint=str(folder(what)), **options)
    (name,) = encoder.needs()
    return encoder.load("cpu", "float32")([{name: media}])[0]


def listen(what: str, **options: Any) -> Any:
    recipe = AUDIO | options.pop("audio", {})
    return encode(what, Waveform(SOUND, RATE), audio=recipe, **options)


def apart(found: FloatArray, expected: FloatArray) -> float:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@torch.inference_mode()
def by_torch(network: torch.nn.Module, *given: Any) -> Any:
    output = tiny.made(network)(*map(torch.as_tensor, given))
    parts = output if isinstance(output, tuple) else (output,)
    return [part.numpy() for part in parts]


# Audio


def test_audio_gives_a_row_a_frame_or_one() -> None:
    frames, loudness = by_torch(tiny.Speech(), SOUND[None])
    found = listen("speech", output="frames")
    assert apart(found, frames[0]) <= 1e-5
    assert apart(listen("speech", output="frames", pool="mean"), frames.mean(1)) <= 1e-5
    assert apart(listen("speech", output="frames", pool="first"), frames[:, 0]) <= 1e-5
    assert apart(listen("speech", output="loudness"), loudness) <= 1e-5


def test_audio_is_brought_to_mean_0_and_variance_1() -> None:
    scaled = (SOUND - SOUND.mean()) / SOUND.std()
    expected = by_torch(tiny.Speech(), scaled[None].astype(np.float32))[0][0]
    found = listen("speech", output="frames", audio={"normalise": "zscore"})
    assert apart(found, expected) <= 1e-4
    assert apart(listen("speech", output="frames"), expected) > 0.1


def test_masks_and_lengths_are_fed() -> None:
    ones, length = np.ones((1, len(SOUND)), np.int64), np.array([len(SOUND)])
    (expected,) = by_torch(tiny.Masked(), SOUND[None], ones, length)
    names = {"mask": "mask", "lengths": "length"}
    assert apart(listen("masked", audio=names), expected[0]) <= 1e-5
    assert apart(listen("masked", audio=names | {"input": "audio"}), expected[0]) <= 1e-5


def test_a_graph_without_a_batch_axis() -> None:
    (expected,) = by_torch(tiny.Single(), SOUND)
    for axis in (0, -2):
        assert apart(listen("single", dim_axis=axis), expected.T) <= 1e-5
    assert apart(listen("single", dim_axis=0, pool="mean"), expected.T.mean(0)[None]) <= 1e-5


def test_the_frame_rate_is_what_the_recipe_says() -> None:
    encoder = encoder_of(checkpoint="x", audio={"rate": 8000, "frame_rate": 50})
    assert encoder.frame_rate == 50
    assert encoder.needs() == {"audio": Audio(8000)}
    assert encoder_of(checkpoint="x", audio=AUDIO).frame_rate is None
    pooled: dict[str, Any] = {
        "checkpoint": "x",
        "audio": {"rate": 8000, "frame_rate": 50},
        "pool": "mean",
    }
    assert encoder_of(**pooled).frame_rate is None


# Frames

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def prepared(size: tuple[int, int], box: tuple[int, int, int, int], scale: float) -> FloatArray:
    """Return the pictures by Pillow and numpy: resized to `size`, cut to `box`, normalised."""
    images = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in CLIP.pixels]
    pixels = np.stack([np.asarray(one.crop(box)) for one in images])
    made: FloatArray = ((pixels / scale - MEAN) / STD).astype(np.float32)
    return made


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("what", ["sight", "sight last", "sight of one"])
@pytest.mark.parametrize("scale", [255.0, 128.0])
@pytest.mark.parametrize(
    ("fit", "size", "box"),
    [
        ({}, (40, 32), (4, 0, 36, 32)),
        ({"shorter": 36}, (45, 36), (6, 2, 38, 34)),
        ({"fit": "stretch"}, (32, 32), (0, 0, 32, 32)),
    ],
)
def test_frames_are_prepared_as_declared(
    what: str, colour: str, scale: float, fit: dict[str, Any], size: Any, box: Any
) -> None:
    pixels = prepared(size, box, scale)
    pixels = pixels[..., ::-1] if colour == "bgr" else pixels
    given = pixels if what == "sight last" else pixels.transpose(0, 3, 1, 2)
    expected = by_torch(tiny.Sight(what == "sight last"), np.ascontiguousarray(given))[1]
    recipe = PICTURES | fit | {"mean": MEAN, "std": STD, "scale": scale, "colour": colour}
    recipe |= {"layout": "nhwc"} if what == "sight last" else {}
    assert apart(encode(what, CLIP, frames=recipe, output="mean"), expected) <= 1e-5


def test_a_map_gives_a_row_a_cell_or_their_mean() -> None:
    square = clip(3, 32, 32)
    given = np.ascontiguousarray(square.pixels.transpose(0, 3, 1, 2), np.float32) / 255
    cells, mean = by_torch(tiny.Sight(), given)
    options: dict[str, Any] = {"frames": PICTURES, "output": "cells", "dim_axis": 1}
    rows = cells.transpose(0, 2, 3, 1).reshape(-1, 5)
    assert apart(encode("sight", square, **options), rows) <= 1e-5
    assert apart(encode("sight", square, **options, pool="mean"), mean) <= 1e-5


def test_bytes_are_given_as_they_are() -> None:
    square = clip(3, 32, 32)
    (expected,) = by_torch(tiny.Raw(), square.pixels.transpose(0, 3, 1, 2))
    assert apart(encode("raw", square, frames=PICTURES), expected) <= 1e-5


def test_many_frames_run_in_passes() -> None:
    long = clip(70, 32, 32)
    found = encode("sight", long, frames=PICTURES, output="mean")
    alone = [
        encode("sight", Frames(long.pixels[[i]], long.times[[i]]), frames=PICTURES, output="mean")
        for i in (0, 31, 32, 69)
    ]
    assert len(found) == 70
    assert apart(found[[0, 31, 32, 69]], np.concatenate(alone)) <= 1e-5


def test_needs_are_those_of_the_recipe() -> None:
    recipe = PICTURES | {"pictures": 8}
    assert encoder_of(checkpoint="x", frames=recipe).needs() == {"frames": Video(count=8)}
    assert encoder_of(checkpoint="x", text={}).needs() == {"text": Words()}


# Text


def test_text_gives_a_row_a_token() -> None:
    ids = np.array([[1, 2, 3, 4, 5]])
    (expected,) = by_torch(tiny.Reading(), ids, np.ones_like(ids), np.zeros_like(ids))
    assert apart(encode("reading", WORDS, text={}), expected[0]) <= 1e-5
    assert apart(encode("reading", WORDS, text={}, pool="mean"), expected.mean(1)) <= 1e-5


def test_a_prefix_is_read_and_what_is_too_long_is_cut_and_noted() -> None:
    ids = np.array([[8, 9, 1, 2]])
    (expected,) = by_torch(tiny.Reading(), ids, np.ones_like(ids), np.zeros_like(ids))
    found = encode("reading", WORDS, text={"prefix": "query: ", "most": 4})
    assert isinstance(found, Noted)
    assert found.record == {"kept_tokens": 4}
    assert apart(found.value, expected[0]) <= 1e-5


def test_text_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="has no tokens"):
        encode("reading", Text(" "), text={})


def test_a_tokenizer_that_is_missing_or_broken_is_refused(tmp_path: Path) -> None:
    shutil.copy(folder("reading") / "model.onnx", tmp_path)
    encoder = encoder_of(checkpoint=str(tmp_path), text={})
    with pytest.raises(CheckpointError, match=r"has no 'tokenizer\.json' beside it"):
        encoder.load("cpu", "float32")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is no file of tokenizers"):
        encoder.load("cpu", "float32")


# Files


def test_a_folder_has_its_graph_at_a_usual_place_or_where_it_is_told(tmp_path: Path) -> None:
    file = folder("speech") / "model.onnx"
    expected = listen("speech", output="frames")

    def found(**options: Any) -> Any:
        encoder = encoder_of(**options, audio=AUDIO, output="frames")
        return encoder.load("cpu", "float32")([{"audio": Waveform(SOUND, RATE)}])[0]

    assert apart(found(checkpoint=str(file)), expected) == 0
    with pytest.raises(CheckpointError, match=r"no file 'model\.onnx' or .*found no \.onnx"):
        found(checkpoint=str(tmp_path))
    (tmp_path / "onnx").mkdir()
    shutil.copy(file, tmp_path / "onnx" / "mine.onnx")
    with pytest.raises(CheckpointError, match=r"found onnx/mine\.onnx; give option 'file'"):
        found(checkpoint=str(tmp_path))
    assert apart(found(checkpoint=str(tmp_path), file="onnx/mine.onnx"), expected) == 0
    shutil.copy(file, tmp_path / "onnx" / "model.onnx")
    assert apart(found(checkpoint=str(tmp_path)), expected) == 0


def parted(path: Path) -> Path:
    """Write the speech network with its weights in a file of their own."""
    graph = onnx.load(folder("speech") / "model.onnx")
    file = path / "parted.onnx"
    onnx.save(
        graph, file, save_as_external_data=True, location="w" * 140 + ".bin", size_threshold=0
    )
    return file


def test_weights_beside_the_graph_are_read_and_identified(tmp_path: Path) -> None:
    file = parted(tmp_path)
    encoder = encoder_of(checkpoint=str(file), audio=AUDIO, output="frames")
    found: Any = encoder.load("cpu", "float32")([{"audio": Waveform(SOUND, RATE)}])[0]
    assert apart(found, listen("speech", output="frames")) == 0
    before = describe(encoder)
    (tmp_path / "other.bin").write_bytes(b"not one of its files")
    assert describe(encoder) == before
    (weights,) = tmp_path.glob("www*.bin")
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    assert describe(encoder) != before
    weights.unlink()
    for act in (encoder.identity, lambda: encoder.load("cpu", "float32")):
        with pytest.raises(
            CheckpointError, match=r"are in 1 files beside it that are missing: www"
        ):
            act()


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    file = parted(tmp_path)
    graph = onnx.load(file, load_external_data=False)
    for tensor in graph.graph.initializer:
        tensor.external_data[0].value = "../secret.bin"
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "model.onnx").write_bytes(graph.SerializeToString())
    encoder = encoder_of(checkpoint=str(tmp_path / "below"), audio=AUDIO)
    with pytest.raises(CheckpointError, match="outside of its folder"):
        encoder.load("cpu", "float32")


def test_identity_is_the_files_not_their_place(tmp_path: Path) -> None:
    copy = shutil.copytree(folder("reading"), tmp_path / "copy")
    (copy / "model.onnx").rename(copy / "mine.onnx")
    own = encoder_of(checkpoint=str(folder("reading")), text={})
    moved = encoder_of(checkpoint=str(copy), file="mine.onnx", text={})
    assert describe(own) == describe(moved)
    (copy / "tokenizer.json").write_text(tiny.TOKENIZER + " ")
    assert describe(own) != describe(moved)


def test_a_hub_id_is_its_own_identity() -> None:
    encoder = encoder_of(checkpoint="owner/name", file="a.onnx", audio=AUDIO)
    assert encoder.identity() == {"checkpoint": "owner/name"}
    with pytest.raises(CheckpointError, match=r"hf download owner/name.*"):
        encoder.load("cpu", "float32")


# Wrong use


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give one of audio, frames and text; found none"),
        ({"audio": AUDIO, "text": {}}, "found audio, text"),
        ({"audio": {}}, "audio.rate"),
        ({"audio": {"rate": 8000, "mel": 80}}, "audio.mel"),
        ({"frames": {"size": 8, "std": (0, 1, 1)}}, "greater than 0"),
        ({"frames": {"size": 8, "layout": "hwc"}}, "'nchw' or 'nhwc'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        encoder_of(checkpoint="x", **options)


@pytest.mark.parametrize(
    ("what", "options", "says"),
    [
        ("speech", {"audio": AUDIO}, "has 2 outputs; give option 'output', one of 'frames'"),
        (
            "speech",
            {"audio": AUDIO, "output": "frame"},
            "no output 'frame'; it has .*; did you mean 'frames'",
        ),
        ("speech", {"audio": AUDIO | {"input": "wave"}, "output": "frames"}, "it has 'audio' tens"),
        ("speech", {"audio": AUDIO | {"mask": "mask"}, "output": "frames"}, "has no input 'mask'"),
        ("masked", {"audio": AUDIO}, "which input to use is not clear; give its name as 'input'"),
        ("masked", {"audio": AUDIO | {"input": "audio"}}, "also takes 'mask' .*, 'length'"),
        ("sight", {"audio": AUDIO, "output": "mean"}, r"'pictures' .*: expected \(samples\)"),
        ("sight", {"frames": {"size": 40}, "output": "mean"}, r"expected \(batch, 3, 40, 40\)"),
        ("sight last", {"frames": PICTURES, "output": "mean"}, r"expected \(batch, 3, 32, 32\)"),
        (
            "sight of two",
            {"frames": PICTURES, "output": "mean"},
            "a batch of any length, or of one",
        ),
        ("reading", {"text": {"ids": "ids"}}, "has no input 'ids'.*it has 'input_ids'"),
        ("reading", {"text": {"types": "kinds"}}, "also takes 'token_type_ids'"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_at_once(
    what: str, options: dict[str, Any], says: str
) -> None:
    encoder = encoder_of(checkpoint=str(folder(what)), **options)
    with pytest.raises(CheckpointError, match=says):
        encoder.load("cpu", "float32")


def test_a_fixed_number_of_samples_is_refused(tmp_path: Path) -> None:
    network = tiny.made(tiny.Speech())
    file = tiny.export(
        network, [torch.zeros(1, 2000)], tmp_path / "a.onnx", {"audio": {}}, ["a", "b"]
    )
    encoder = encoder_of(checkpoint=str(file), audio=AUDIO, output="a")
    with pytest.raises(CheckpointError, match=r"\(1, 2000\): expected a last axis of any length"):
        encoder.load("cpu", "float32")


@pytest.mark.parametrize("axis", [0, 3, -3, 7])
def test_an_axis_that_the_output_does_not_have_is_refused(axis: int) -> None:
    with pytest.raises(RegistryError, match=f"'dim_axis' is {axis}, but the output is"):
        listen("speech", output="frames", dim_axis=axis)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"not a graph"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            encoder_of(checkpoint=str(tmp_path), audio=AUDIO).load("cpu", "float32")
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        encoder_of(checkpoint="no/such/file.onnx", audio=AUDIO).load("cpu", "float32")


def test_samples_that_the_graph_does_not_take_are_refused() -> None:
    encoder = encoder_of(checkpoint=str(folder("speech")), audio=AUDIO, output="frames")
    function = encoder.load("cpu", "float32")
    wrong: list[tuple[Any, str]] = [
        (Waveform(SOUND[:100], RATE), r"does not take audio \(1, 100\)"),
        (Waveform(SOUND[:0], RATE), "has 0 samples"),
        (WORDS, "holds Text, expected audio"),
    ]
    for media, says in wrong:
        with pytest.raises(InputError, match=says):
            function([{"audio": media}])
    with pytest.raises(InputError, match="no frame, expected at least one"):
        encode("sight", clip(0), frames=PICTURES, output="mean")


def test_dtypes_and_devices_that_it_does_not_have_are_refused() -> None:
    encoder = encoder_of(checkpoint=str(folder("single")), audio=AUDIO)
    with pytest.raises(RegistryError, match="the types it was exported with"):
        encoder.load("cpu", "float16")
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="does not run on 'cuda'"):
            encoder.load("cuda", "float32")


def test_an_empty_batch_gives_nothing() -> None:
    batch: list[Inputs] = []
    encoder = encoder_of(checkpoint=str(folder("single")), audio=AUDIO)
    assert list(encoder.load("cpu", "float32")(batch)) == []


# Conformance


class TestAudio(EncoderTests):
    component = encoder_of(
        checkpoint=str(folder("speech")), audio=AUDIO | {"normalise": "zscore"}, output="frames"
    )


class TestFrames(EncoderTests):
    component = encoder_of(
        checkpoint=str(folder("sight")), frames=PICTURES | {"pictures": 4}, output="mean"
    )


class TestText(EncoderTests):
    component = encoder_of(checkpoint=str(folder("reading")), text={"most": 64}, pool="first")
