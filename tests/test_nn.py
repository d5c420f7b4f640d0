from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, PositiveInt
from torch import nn

from mercore import Encoder, Words
from mercore.components import Encode
from mercore.errors import CheckpointError, RegistryError, RunError
from mercore.nn import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    HiddenStates,
    OnnxModel,
    chosen,
    device_of,
    dtype_of,
    moved,
    normalised,
    onnx_session,
    parsed,
    read_json,
    resized,
    rows,
    stretched,
)


class Stack(nn.Module):
    """Four blocks and a norm; `states` are what published features count as hidden states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(4))
        self.norm = nn.LayerNorm(3)

    def states(self, x: torch.Tensor) -> list[torch.Tensor]:
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1]))
        return [*states[:-1], self.norm(states[-1])]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.states(x)[-1]


@pytest.mark.parametrize("layers", [(-1,), (0,), (-4, -3, -2, -1), (1, 3), (0, -1)])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@torch.inference_mode()
def test_hidden_states_are_those_of_the_layers(
    layers: tuple[int, ...], reduce: Literal["mean", "sum"]
) -> None:
    stack = Stack().eval()
    numbers = chosen(layers, 4, "toy")
    hidden = HiddenStates(stack.blocks, numbers, reduce, depth=4, final=stack.norm)
    for seed in range(2):  # a run leaves nothing to the next
        x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed))
        stack(x)
        states = stack.states(x)
        wanted = torch.stack([states[layer] for layer in layers])
        stack(x)
        expected = wanted.mean(0) if reduce == "mean" else wanted.sum(0)
        assert torch.allclose(hidden.take(), expected, atol=1e-6)


@torch.inference_mode()
def test_a_run_that_ended_in_the_middle_leaves_nothing_to_the_next() -> None:
    stack = Stack().eval()
    hidden = HiddenStates(stack.blocks, (1, 3), "sum", depth=4)
    broken = stack.blocks[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stack(torch.ones(1, 7, 3))
    broken.remove()
    states = stack.states(torch.ones(1, 2, 3))
    assert torch.equal(hidden.take(), states[1] + states[3])


def test_hidden_states_are_added_up_in_float32() -> None:
    stack = Stack().eval().to(torch.bfloat16)
    hidden = HiddenStates(stack.blocks, (3, 4), "sum", depth=4, final=stack.norm)
    stack(torch.randn(1, 2, 3, dtype=torch.bfloat16))
    assert hidden.take().dtype == torch.float32


def test_layers_are_counted_from_either_end() -> None:
    assert chosen((-4, -1, 0), 4, "toy") == (0, 1, 4)
    assert chosen((-5,), 4, "toy") == (0,)


@pytest.mark.parametrize("layer", [5, -6])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(RegistryError, match=rf"toy: option 'layers' names \[{layer}\].* 0 to 4"):
        chosen((layer,), 4, "toy")


def test_a_layer_given_twice_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"names a hidden state twice"):
        chosen((4, -1), 4, "toy")


class Sizes(BaseModel):
    width: PositiveInt
    kind: Literal["gelu"] = "gelu"


def test_a_json_file_is_read_as_what_it_should_be(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"width": 3, "more": []}')
    assert parsed(Sizes, file, read_json(file)) == Sizes(width=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory; fetch it"),
        ("{", "is no JSON: .*; fetch the file again"),
        ("[]", "holds a list, expected an object"),
        ("{}", "cannot be used: width: Field required; expected that of a toy$"),
        (
            '{"width": 0, "kind": "relu"}',
            "cannot be used: width: .*, found 0; kind: .*, found 'relu'",
        ),
    ],
)
def test_a_json_file_that_is_unfit_says_why(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(CheckpointError, match=rf"config.json: {said}"):
        parsed(Sizes, file, read_json(file), "a toy")


def test_a_type_that_is_none_is_refused() -> None:
    assert dtype_of("bfloat16") is torch.bfloat16
    with pytest.raises(RunError, match="dtype 'int8' is not one; expected 'float32', 'bfloat16'"):
        dtype_of("int8")


@pytest.mark.parametrize("name", ["abacus", "cuda:", "cuda:x", "CPU", "auto", ""])
def test_what_is_no_device_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(RunError, match=f"device '{name}' is not one; expected 'cpu', 'cuda' or"):
        device_of(name)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(RunError, match=r"device 'cuda:99': torch finds (no CUDA device|\d+)"):
        device_of("cuda:99")


def test_arrays_go_there_and_back() -> None:
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)[:, ::2]
    assert np.array_equal(rows(moved(array, "cpu").to(torch.bfloat16)), array)


SHAPES = [(300, 400), (400, 300), (112, 112), (224, 224), (37, 91)]
ODD_SHAPES = [(55, 55), (55, 110), (58, 58), (116, 100)]  # of which rounding loses a pixel


@pytest.mark.parametrize("shape", SHAPES + ODD_SHAPES)
@pytest.mark.parametrize("shorter", [None, 248])
def test_pictures_are_resized_as_torchvision_does(
    shape: tuple[int, int], shorter: int | None
) -> None:
    from torchvision.transforms import v2 as transforms  # takes seconds

    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    size = shorter or 224
    bicubic = transforms.InterpolationMode.BICUBIC
    reference = transforms.Compose(
        [transforms.Resize(size, interpolation=bicubic), transforms.CenterCrop(224)]
    )
    found = resized(pixels, 224, shorter=shorter)
    for picture, own in zip(pixels, found, strict=True):
        assert np.array_equal(np.asarray(reference(Image.fromarray(picture))), own)


@pytest.mark.parametrize("shape", [(300, 400), (37, 91), (224, 224)])
def test_pictures_are_stretched_as_torchvision_does(shape: tuple[int, int]) -> None:
    from torchvision.transforms import v2 as transforms

    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    reference = transforms.Resize((224, 224), interpolation=transforms.InterpolationMode.BICUBIC)
    for picture, own in zip(pixels, stretched(pixels, 224), strict=True):
        assert np.array_equal(np.asarray(reference(Image.fromarray(picture))), own)


def test_pictures_are_normalised() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    found = normalised(torch.from_numpy(pixels), torch.float32)
    expected = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert np.allclose(found.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


class Toy(Encoder):
    """Names what is exported."""

    name = "toy"
    inputs: ClassVar = {"text": Words()}
    version: int = 1

    def load(self, device: str, dtype: str) -> Encode:
        raise NotImplementedError


class Product(nn.Module):
    """A matrix product; `wrong` adds what tracing freezes and torch does not."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 16)
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.layer(x)
        return product + int(x.shape[0]) if self.wrong else product


EXAMPLES = [(torch.ones(1, 64),), (torch.linspace(-1, 1, 192).reshape(3, 64),)]
AXES = {"x": {0: "batch"}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path))
    return tmp_path / "onnx"


@pytest.mark.usefixtures("cache")
def test_an_export_gives_what_torch_gives() -> None:
    product = Product()
    model = OnnxModel(Toy(), lambda: product, EXAMPLES, AXES, device="cpu")
    x = torch.randn(5, 64)
    with torch.inference_mode():
        assert np.allclose(model(x.numpy()), product(x).numpy(), atol=1e-6)
    assert model.error < 1e-6


def test_an_export_is_made_once_for_each_set_of_options(cache: Path) -> None:
    made = []

    def build() -> nn.Module:
        made.append(1)
        return Product()

    for version in (1, 1, 2):
        OnnxModel(Toy(version=version), build, EXAMPLES, AXES, device="cpu")
    assert len(made) == 2
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("cache")
def test_int8_says_what_it_costs() -> None:
    product = Product()
    model = OnnxModel(Toy(), lambda: product, EXAMPLES, AXES, device="cpu", int8=True)
    with torch.inference_mode():
        gaps = [np.abs(model(x.numpy()) - product(x).numpy()).max() for (x,) in EXAMPLES]
    assert 1e-5 < model.error < 0.1
    assert max(gaps) > 1e-5


def test_an_export_that_differs_is_refused_and_not_kept(cache: Path) -> None:
    with pytest.raises(RunError, match=r"differs from torch by .* more than 0.001; use `backend"):
        OnnxModel(Toy(), lambda: Product(wrong=True), EXAMPLES, AXES, device="cpu")
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_the_runtime_does_not_have_is_refused() -> None:
    with pytest.raises(RunError, match=r"onnxruntime does not run on 'cuda'.*onnxruntime-gpu"):
        OnnxModel(Toy(), Product, EXAMPLES, AXES, device="cuda")


def test_a_session_is_of_a_file_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"model\.onnx: cannot be read: .*; fetch it again"):
        onnx_session(tmp_path / "model.onnx", "cpu")


def test_a_runtime_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RunError, match="needs onnxruntime, which is not installed; run `pip"):
        onnx_session(tmp_path / "model.onnx", "cpu")
