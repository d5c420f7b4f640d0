"""No checkpoint, whatever is in it, raises anything but CheckpointError, or is read outside."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import FUZZ, as_json, damaged, told, twisted
from safetensors.torch import save

from mercore.checkpoints import identity, locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint
from mercore.nn import read_json as read_config

SEEDS = st.integers(0, 2**32)
TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.bias": torch.zeros(2, dtype=torch.bfloat16),
    "count": torch.tensor(3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check(path: Path) -> None:
    """Read all of a checkpoint: there are tensors, or a CheckpointError names the file."""
    with told(CheckpointError, str(path)):
        found = Checkpoint(path)
        assert all(isinstance(found[name], torch.Tensor) for name in found)


def safetensors(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def torch_file(folder: Path, content: object = TENSORS, *, zipped: bool = True) -> bytes:
    torch.save(content, folder / "x", _use_new_zipfile_serialization=zipped)
    return (folder / "x").read_bytes()


@FUZZ
@given(seed=SEEDS)
def test_damaged_safetensors(folder: Path, seed: int) -> None:
    path = folder / "w.safetensors"
    path.write_bytes(damaged(save(TENSORS), random.Random(seed)))
    check(path)


@FUZZ
@given(seed=SEEDS, length=st.sampled_from([None, None, None, 0, 8, 2**32, 2**63, 2**64 - 1]))
def test_twisted_headers_of_safetensors(folder: Path, seed: int, length: int | None) -> None:
    whole = save(TENSORS)
    (size,) = struct.unpack("<Q", whole[:8])
    chance = random.Random(seed)
    header = json.loads(whole[8 : 8 + size])
    header["a.bias"]["dtype"] = chance.choice(["BF16", "F8_E4M3", "F4", "C64", "U64", "BOOL", "x"])
    path = folder / "w.safetensors"
    path.write_bytes(safetensors(as_json(twisted(header, chance)), whole[8 + size :], length))
    check(path)


@FUZZ
@given(seed=SEEDS, zipped=st.booleans())
def test_damaged_torch_files(folder: Path, seed: int, zipped: bool) -> None:
    path = folder / "w.pth"
    path.write_bytes(damaged(torch_file(folder, zipped=zipped), random.Random(seed)))
    check(path)


@FUZZ
@given(seed=SEEDS)
def test_a_damaged_pickle_in_a_torch_file_that_is_whole(folder: Path, seed: int) -> None:
    (folder / "whole.pth").write_bytes(torch_file(folder))
    path, chance = folder / "w.pth", random.Random(seed)
    with zipfile.ZipFile(folder / "whole.pth") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, damaged(data, chance) if name.endswith("data.pkl") else data)
    check(path)


@FUZZ
@given(seed=SEEDS)
def test_a_twisted_index(folder: Path, seed: int) -> None:
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    (shards / "m-1.safetensors").write_bytes(save(TENSORS))
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(TENSORS, "m-1.safetensors")}
    content, chance = twisted(index, random.Random(seed)), random.Random(seed)
    data = as_json(content)
    (shards / "model.safetensors.index.json").write_bytes(
        data if chance.random() < 0.5 else damaged(data, chance)
    )
    check(shards)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "{outside}", "a/../../secret.safetensors"]
)
def test_an_index_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    outside, inside = tmp_path / "secret.safetensors", tmp_path / "model"
    outside.write_bytes(save(TENSORS))
    (inside / "a").mkdir(parents=True)
    name = name.format(outside=outside)
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.bias": name}}))
    with pytest.raises(CheckpointError, match=r"index.json: names .* which is not in its folder"):
        Checkpoint(inside)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "is no index: : Input should be"),
        ({"weight_map": ["a"]}, "is no index: weight_map: Input should be"),
        ({"weight_map": {"a": 1}}, "is no index: weight_map.a: Input should be a valid string"),
        ({"weight_map": {"a": "b\0"}}, "lacks 1 of the 1 files"),
        ({}, "is no index: weight_map: Field required"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, content: Any, says: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(tmp_path)
    assert says in str(caught.value)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "w.pth").write_bytes(torch_file(tmp_path, {"a": Evil(mark)}, zipped=zipped))
    with pytest.raises(CheckpointError, match=r"w.pth: holds more than weights"):
        Checkpoint(tmp_path / "w.pth")
    (tmp_path / "p.bin").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(CheckpointError, match=r"p.bin"):
        Checkpoint(tmp_path / "p.bin")
    assert not mark.exists()


def test_a_file_that_holds_itself_does_not_hang(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    (tmp_path / "w.pth").write_bytes(torch_file(tmp_path, content))
    with pytest.raises(CheckpointError, match="holds no state dict"):
        Checkpoint(tmp_path / "w.pth")


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": entry, "b": entry}).encode()
    (tmp_path / "w.safetensors").write_bytes(safetensors(header, bytes(8)))
    with pytest.raises(CheckpointError, match=r"w.safetensors: cannot be read"):
        Checkpoint(tmp_path / "w.safetensors")


def test_a_config_nested_without_end_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="is no JSON"):
        read_config(tmp_path / "config.json")


@FUZZ
@given(name=st.text() | st.sampled_from(["x" * 5000, "~nobody-of-this-name", "a/" * 3000, "\0"]))
def test_any_text_for_a_checkpoint(name: str) -> None:
    path = f"./no/{name}"
    for reads in (identity, lambda path: locate(path, wanted=["*.bin"])):
        with pytest.raises(CheckpointError):
            reads(path)
