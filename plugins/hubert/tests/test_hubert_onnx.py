"""`hubert` by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_hubert as tiny
from hubert_reference import apart, encode, inputs, sound
from pydantic import ValidationError

from mercore.components import Noted
from mercore.errors import RegistryError, RunError
from mercore_hubert import Hubert

AUDIO = sound(20_011)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("large"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("options", [{}, {"layers": (0, 2), "reduce": "sum"}, {"chunk": 1}])
@pytest.mark.parametrize("kind", ["large", "base"])
def test_onnx_gives_what_torch_gives(
    tmp_path: Path, kind: tiny.Kind, options: dict[str, Any]
) -> None:
    checkpoint = tiny.write(tmp_path / kind, kind)
    loaded = [
        Hubert(checkpoint=str(checkpoint), backend=backend, **options).load("cpu", "float32")
        for backend in ("torch", "onnx")
    ]
    for samples in (400, 5_000, 20_011):  # none is the length of an example of the export
        clips = inputs(sound(samples), sound(samples + 321, 1))
        for exact, own in zip(*(encoder(clips) for encoder in loaded), strict=True):
            assert isinstance(exact, np.ndarray)
            assert apart(own, exact) <= 1e-5 * max(1, np.abs(exact).max())


def test_onnx_gives_what_torch_gives_of_fairseq(tmp_path: Path) -> None:
    weights = tiny.fairseq(tiny.tensors("large"), "large")
    file = tiny.write_fairseq(tmp_path / "hubert.pt", weights)
    assert apart(encode(file, AUDIO, backend="onnx"), encode(file, AUDIO)) <= 1e-5


def test_it_is_exported_once(large: Path, cache: Path) -> None:
    first = encode(large, AUDIO, backend="onnx")
    (model,) = cache.rglob("model.onnx")
    written = model.stat().st_mtime_ns
    assert apart(encode(large, AUDIO, backend="onnx"), first) == 0
    assert [file.stat().st_mtime_ns for file in cache.rglob("model.onnx")] == [written]


def test_int8_notes_what_it_costs(large: Path) -> None:
    exact = encode(large, AUDIO)
    found = encode(large, AUDIO, backend="onnx", int8=True)
    assert isinstance(found, Noted)
    gap = apart(found, exact) / np.abs(exact).max()
    error = found.record["int8_error"]
    assert isinstance(error, float)
    assert 1e-4 < error < 0.2
    assert 1e-4 < gap < 0.2


def test_int8_and_other_types_need_the_backend_they_go_with(large: Path) -> None:
    with pytest.raises(ValidationError, match="int8: true needs backend: onnx"):
        Hubert(int8=True)
    with pytest.raises(
        RegistryError, match="hubert: dtype 'float16' does not go with `backend: on"
    ):
        encode(large, AUDIO, "float16", backend="onnx")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has onnxruntime-gpu"
)
def test_a_provider_that_is_not_there_is_named(large: Path) -> None:
    with pytest.raises(
        RunError, match=r"onnxruntime does not run on 'cuda': it has .*onnxruntime-"
    ):
        Hubert(checkpoint=str(large), backend="onnx").load("cuda", "float32")
