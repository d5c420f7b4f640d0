"""`vit_mae` by ONNX Runtime, and on devices that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_vit_mae as tiny
import torch
from pydantic import ValidationError
from vit_mae_cases import apart, clip, encode, wrapped

from mercore.components import Noted
from mercore.errors import RegistryError, RunError
from mercore_vit_mae import VitMAE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "options", [{}, {"pool": "cls", "layers": (0, -2, -1), "reduce": "sum"}, {"grid": 2}]
)
def test_onnx_gives_what_torch_gives(folder: Path, options: dict[str, Any]) -> None:
    media = clip(8)
    exact = encode(folder, media, **options)
    gap = apart(encode(folder, media, backend="onnx", **options), exact)
    assert gap <= 1e-5 * max(1.0, float(np.abs(exact).max()))


def test_onnx_gives_what_torch_gives_of_a_finetuned_network(tmp_path: Path) -> None:
    checkpoint = wrapped(tiny.finetuned())(tmp_path)
    exact, own = (
        encode(checkpoint, clip(3), backend=backend, heads=tiny.HEADS)
        for backend in ("torch", "onnx")
    )
    assert apart(own, exact) <= 1e-5


def test_it_is_exported_once(folder: Path, cache: Path) -> None:
    first = encode(folder, clip(2), backend="onnx")
    (model,) = cache.rglob("model.onnx")
    written = model.stat().st_mtime_ns
    assert apart(encode(folder, clip(2), backend="onnx"), first) == 0
    assert [file.stat().st_mtime_ns for file in cache.rglob("model.onnx")] == [written]


def test_int8_notes_what_it_costs(folder: Path) -> None:
    exact = encode(folder, clip(5))
    found = encode(folder, clip(5), backend="onnx", int8=True)
    assert isinstance(found, Noted)
    gap = apart(found.value, exact) / np.abs(exact).max()
    error = found.record["int8_error"]
    assert isinstance(error, float)
    assert 1e-4 < error < 0.2
    assert 1e-4 < gap < 0.2
    grids = encode(folder, clip(5), backend="onnx", int8=True, grid=2)
    assert set(grids.record) == {"int8_error", "frames", "cells"}


def test_int8_and_other_types_need_the_backend_they_go_with(folder: Path) -> None:
    with pytest.raises(ValidationError, match="int8: true needs backend: onnx"):
        VitMAE(int8=True)
    with pytest.raises(RegistryError, match="dtype 'float16' does not go with `backend: onnx`"):
        encode(folder, clip(1), "float16", backend="onnx")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_named(folder: Path, device: str) -> None:
    with pytest.raises(RunError, match=f"device '{device}': torch finds no CUDA device"):
        VitMAE(checkpoint=str(folder)).load(device, "float32")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has onnxruntime-gpu"
)
def test_a_provider_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(
        RunError, match=r"onnxruntime does not run on 'cuda': it has .*onnxruntime-"
    ):
        VitMAE(checkpoint=str(folder), backend="onnx").load("cuda", "float32")


def test_another_device_and_type_are_refused(folder: Path) -> None:
    with pytest.raises(RunError, match="device 'mps': expected cpu, cuda or cuda:N"):
        VitMAE(checkpoint=str(folder)).load("mps", "float32")
    with pytest.raises(RunError, match="dtype 'int8' is not one"):
        VitMAE(checkpoint=str(folder)).load("cpu", "int8")
