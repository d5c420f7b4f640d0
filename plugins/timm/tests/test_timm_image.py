"""`timm_image` beside timm itself: its transforms, its pooled vectors, its checkpoints."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import save_for_hf
from torch import Tensor, nn

from mercore.components import Inputs
from mercore.errors import CheckpointError, InputError, RegistryError, RunError
from mercore.media import FloatArray, Frames, Text, Video
from mercore.testing import EncoderTests
from mercore_timm import TimmImage
from mercore_timm._model import _PASS, TimmModel

# An architecture each: its arguments make it small, its configuration is that of a published one.
VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3}
MODELS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224.augreg_in21k": VIT,
    "vit_small_patch14_dinov2.lvd142m": VIT | {"img_size": 70},
    "vit_small_patch16_dinov3.lvd1689m": VIT,
    "vit_base_patch16_siglip_224.webli": VIT,
    "vit_base_patch16_clip_224.openai": VIT,
    "convnext_atto.d2_in1k": {"dims": (16, 24, 32, 48), "depths": (1, 1, 2, 1)},
    "test_efficientnet.r160_in1k": {},
    "swin_tiny_patch4_window7_224.ms_in1k": {
        "embed_dim": 16,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 2, 2, 4),
    },
    "resnet10t.c3_in1k": {"channels": (16, 24, 32, 48)},
}


@cache
def made(name: str) -> tuple[Any, Path]:
    """Return timm's model of a folder that timm itself wrote, small and random; and the folder."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, **MODELS[name])
    for which, parameter in model.named_parameters():
        if parameter.dim() > 1 or which.endswith("gamma"):  # those start at almost 0
            nn.init.normal_(parameter, std=0.1)
    folder = Path(tempfile.mkdtemp())
    save_for_hf(model, str(folder), model_args=MODELS[name], safe_serialization="both")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model, folder


VIT_NAME, DINO, SIGLIP, CONVNEXT, SWIN = (
    "vit_tiny_patch16_224.augreg_in21k",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch16_siglip_224.webli",
    "convnext_atto.d2_in1k",
    "swin_tiny_patch4_window7_224.ms_in1k",
)


def clip(count: int, height: int = 90, width: int = 130, seed: int = 0) -> Frames:
    """Return coarse noise, which resizing leaves something of."""
    cells = np.random.default_rng(seed).integers(0, 256, (count, 12, 15, 3), np.uint8)
    large = [Image.fromarray(one).resize((width, height)) for one in cells]
    pixels = np.array([np.asarray(one) for one in large], np.uint8).reshape(-1, height, width, 3)
    return Frames(pixels, np.arange(count) / 10)


CLIP = clip(3)


def encoder_of(name: str, **options: Any) -> TimmImage:
    return TimmImage(checkpoint=str(made(name)[1]), **options)


def encode(encoder: TimmImage, frames: Frames = CLIP, dtype: str = "float32") -> Any:
    return encoder.load("cpu", dtype)([{"frames": frames}])[0]


def pictures(model: nn.Module, frames: Frames = CLIP, **config: Any) -> Tensor:
    """Return what timm's transform for evaluation makes of the frames."""
    data: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    transform = create_transform(**data | config)
    return torch.stack([transform(Image.fromarray(frame)) for frame in frames.pixels])


@torch.inference_mode()
def vectors(name: str, frames: Frames = CLIP, **config: Any) -> FloatArray:
    """Return timm's own vectors in front of the classifier."""
    model = made(name)[0]
    features = model.forward_features(pictures(model, frames, **config))
    found: FloatArray = model.forward_head(features, pre_logits=True).numpy()
    return found


def apart(found: FloatArray, expected: FloatArray) -> float:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_it_gives_what_timm_gives(name: str) -> None:
    expected = vectors(name)
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    assert apart(encode(encoder_of(name)), expected) <= 1e-5


@pytest.mark.parametrize("crop", [None, "center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [None, 0.6, 1.0])
def test_pictures_are_those_of_timms_transform(crop: Any, crop_pct: float | None) -> None:
    options = {"crop": crop, "crop_pct": crop_pct}
    model: Any = encoder_of(CONVNEXT, **options).load("cpu", "float32")
    seen: list[Tensor] = []
    model._model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    given = {"crop_mode": crop, "crop_pct": crop_pct}
    config = {name: value for name, value in given.items() if value is not None}
    for height, width in ((90, 130), (300, 200), (224, 224)):
        frames = clip(1, height, width)
        model([{"frames": frames}])
        expected = pictures(made(CONVNEXT)[0], frames, **config)
        assert torch.allclose(seen.pop(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "tokens"), [(VIT_NAME, 197), (CONVNEXT, 49), (SWIN, 49)])
def test_tokens_are_rows_and_their_mean_is_one(name: str, tokens: int) -> None:
    model = made(name)[0]
    with torch.inference_mode():
        features = model.forward_features(pictures(model))
    if name == CONVNEXT:  # (frames, dim, rows, columns)
        features = features.permute(0, 2, 3, 1)
    expected = features.reshape(3, tokens, -1).numpy()
    found = encode(encoder_of(name, pool="tokens"))
    assert apart(found, expected.reshape(3 * tokens, -1)) <= 1e-5
    cells = expected[:, getattr(model, "num_prefix_tokens", 0) :]
    assert apart(encode(encoder_of(name, pool="mean")), cells.mean(1)) <= 1e-5


@pytest.mark.parametrize("name", [VIT_NAME, DINO, CONVNEXT, SWIN])
def test_layers_are_the_means_of_timms_intermediates(name: str) -> None:
    model: Any = made(name)[0]
    with torch.inference_mode():
        maps = model.forward_intermediates(pictures(model), intermediates_only=True)
    means = [one.mean((2, 3)).numpy() for one in maps]
    assert apart(encode(encoder_of(name, pool="mean", layers=(1,))), means[1]) <= 1e-5
    both = np.concatenate([means[0], means[-1]], 1)
    assert apart(encode(encoder_of(name, pool="mean", layers=(-1, 0))), both) <= 1e-5


# Sizes


@pytest.mark.parametrize("name", [VIT_NAME, DINO, CONVNEXT])
def test_another_size_is_what_timm_makes_of_it(name: str) -> None:
    """Also where position embeddings have to be interpolated."""
    _, folder = made(name)
    other: Any = {"img_size": 112} if name != CONVNEXT else {}
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **other).eval()
    with torch.inference_mode():
        expected = model(pictures(model, input_size=(3, 112, 112))).numpy()
    assert apart(encode(encoder_of(name, size=112)), expected) <= 1e-5


# Checkpoints


@pytest.mark.parametrize("name", [VIT_NAME, CONVNEXT])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_beside_its_config_is_enough(name: str, file: str) -> None:
    found = encode(TimmImage(checkpoint=str(made(name)[1] / file)))
    assert apart(found, encode(encoder_of(name))) == 0


# Whole published sizes: those of a name alone cannot be small.
SMALLEST = "test_vit.r160_in1k"


@cache
def smallest() -> tuple[Any, Path]:
    torch.manual_seed(1)
    model: Any = timm.create_model(SMALLEST).eval()
    file = Path(tempfile.mkdtemp()) / "weights.pth"
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, file)
    return model, file


@pytest.mark.parametrize("headless", [True, False])
def test_a_file_alone_needs_the_name_of_the_model(tmp_path: Path, headless: bool) -> None:
    model, file = smallest()
    if headless:
        state = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
        file = tmp_path / "headless.safetensors"
        save_file(state, file)
    with torch.inference_mode():
        features = model.forward_features(pictures(model))
        expected = model.forward_head(features, pre_logits=True).numpy()
    encoder = TimmImage(model=SMALLEST, checkpoint=str(file))
    assert apart(encode(encoder), expected) <= 1e-5
    with pytest.raises(CheckpointError, match=r"no config\.json beside it.*give option 'model'"):
        encode(TimmImage(checkpoint=str(file)))


def test_a_model_alone_is_that_of_timms_own_repositories() -> None:
    encoder = TimmImage(model=SMALLEST)
    assert encoder.weights == f"timm/{SMALLEST}"
    assert encoder.identity() == {"checkpoint": f"timm/{SMALLEST}"}
    with pytest.raises(CheckpointError, match=f"hf download timm/{SMALLEST}"):
        encode(encoder)


@pytest.mark.parametrize(
    "lost", ["norm.weight", "blocks.1.attn.qkv.bias", "patch_embed.proj.weight"]
)
def test_missing_weights_are_refused(tmp_path: Path, lost: str) -> None:
    folder = shutil.copytree(made(VIT_NAME)[1], tmp_path / "copy")
    state = load_file(folder / "model.safetensors")
    del state[lost]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"do not fit.*{lost}"):
        encode(TimmImage(checkpoint=str(folder)))


def test_weights_that_are_not_expected_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(made(VIT_NAME)[1], tmp_path / "copy")
    state = load_file(folder / "model.safetensors")
    save_file(state | {"strange": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit.*strange"):
        encode(TimmImage(checkpoint=str(folder)))
    save_file(state | {"norm.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit.*norm\.weight"):
        encode(TimmImage(checkpoint=str(folder)))


def test_a_config_that_is_not_timms_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(made(VIT_NAME)[1], tmp_path / "copy")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match="names no architecture of timm"):
        encode(TimmImage(checkpoint=str(folder)))
    (folder / "config.json").write_text(json.dumps(told | {"architecture": "vit_tiny_patch61"}))
    with pytest.raises(RegistryError, match=r"'vit_tiny_patch61' is no model.*did you mean"):
        encode(TimmImage(checkpoint=str(folder)))
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file 'config\.json'"):
        encode(TimmImage(checkpoint=str(folder)))


def test_a_model_that_reads_one_channel_is_refused(tmp_path: Path) -> None:
    sizes: dict[str, Any] = VIT | {"in_chans": 1}
    grey = timm.create_model(VIT_NAME, **sizes)
    save_for_hf(grey, str(tmp_path), model_args=sizes)
    with pytest.raises(CheckpointError, match="reads 1 channels, expected 3"):
        encode(TimmImage(checkpoint=str(tmp_path)))


def test_identity_is_the_weights_not_their_place(tmp_path: Path) -> None:
    _, folder = made(VIT_NAME)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert TimmImage(checkpoint=str(copy)).identity() == encoder_of(VIT_NAME).identity()
    file = str(copy / "model.safetensors")
    before = [TimmImage(checkpoint=file, model=model).identity() for model in (None, SMALLEST)]
    told = json.loads((copy / "config.json").read_text())
    told["pretrained_cfg"]["crop_pct"] = 1.0
    (copy / "config.json").write_text(json.dumps(told))
    after = [TimmImage(checkpoint=file, model=model).identity() for model in (None, SMALLEST)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


# Wrong use


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give model, checkpoint, or both"),
        ({"model": "resnet50"}, "no name of a training behind a dot"),
        ({"checkpoint": "x", "layers": (1,)}, "layers needs pool: mean"),
        ({"checkpoint": "x", "pool": "mean", "layers": ()}, "at least 1 item"),
        ({"checkpoint": "x", "crop": "centre"}, "'center', 'squash' or 'border'"),
        ({"checkpoint": "x", "crop_pct": 1.5}, "less than or equal to 1"),
        ({"checkpoint": "x", "size": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TimmImage(**options)


def test_models_that_timm_does_not_have_are_refused() -> None:
    file = str(smallest()[1])
    with pytest.raises(RegistryError, match=r"'resnet05' is no model.*did you mean 'resnet"):
        encode(TimmImage(model="resnet05", checkpoint=file))
    with pytest.raises(RegistryError, match="knows no such training of resnet18; expected one of"):
        encode(TimmImage(model="resnet18.mine", checkpoint=file))
    with pytest.raises(CheckpointError, match="is of 'vit_tiny_patch16_224', but option 'model'"):
        encode(encoder_of(VIT_NAME, model="resnet18.a1_in1k"))
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        encode(TimmImage(model=SMALLEST, checkpoint="nowhere/at/all.pth"))


@pytest.mark.parametrize(
    ("layers", "says"), [((3,), "out of range"), ((1, 1), "names one twice"), ((2, -1), "twice")]
)
def test_layers_that_do_not_exist_are_refused(layers: tuple[int, ...], says: str) -> None:
    with pytest.raises(RegistryError, match=says):
        encode(encoder_of(VIT_NAME, pool="mean", layers=layers))


@pytest.mark.parametrize(
    ("media", "says"), [(clip(0), "no frame, expected at least one"), (Text("a"), "holds Text")]
)
def test_what_holds_no_frames_is_refused(media: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        encode(encoder_of(VIT_NAME), media)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="torch finds no CUDA device"):
        encoder_of(VIT_NAME).load("cuda", "float32")


def test_needs_are_the_pictures() -> None:
    assert encoder_of(VIT_NAME).needs() == {"frames": Video()}
    assert encoder_of(VIT_NAME, pictures=8).needs() == {"frames": Video(count=8)}


def test_passes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    media: list[Inputs] = [{"frames": clip(count, 60 + count, 80, count)} for count in (5, 1, 7)]
    whole = encoder_of(VIT_NAME, pool="tokens").load("cpu", "float32")(media)
    monkeypatch.setitem(_PASS, "cpu", 2)
    encoder = encoder_of(VIT_NAME, pool="tokens").load("cpu", "float32")
    assert isinstance(encoder, TimmModel)
    assert encoder._at_once == 2
    for one, other in zip(whole, encoder(media), strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert apart(one, other) <= 1e-5
    assert list(encoder([])) == []


# Conformance


class TestVit(EncoderTests):
    component = encoder_of(VIT_NAME, pictures=4)
    long = 0.05


class TestConvnext(EncoderTests):
    component = encoder_of(CONVNEXT, pool="mean", layers=(1, -1), size=64)
    long = 0.05
