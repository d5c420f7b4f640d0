"""The tensors of a checkpoint, one at a time: safetensors and torch files, whole or in shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from pickle import UnpicklingError  # the error alone: nothing is unpickled here
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ValidationError
from safetensors import safe_open

from mercore.errors import CheckpointError

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
"""What weights are looked for in, the most preferred first."""
_USUAL = ("model", "pytorch_model", "adapter_model")
# Where training code puts the weights inside a torch file.
_NESTS = ("state_dict", "model", "model_state_dict", "module")


class _Shard(Protocol):
    def names(self) -> list[str]: ...

    def tensor(self, name: str) -> torch.Tensor: ...


class Checkpoint(Mapping[str, torch.Tensor]):
    """The named tensors of a checkpoint, read from disk when they are asked for.

    `path` is a file, or a folder with one (``model.safetensors``, ``pytorch_model.bin``, or the
    only ``.safetensors``, ``.bin``, ``.pth`` or ``.pt`` in it) or with shards and their index;
    safetensors are preferred. Torch files are read with ``weights_only=True``, so they cannot run
    code. Only one file is open at a time, and a shard of which nothing is asked is never opened.

    Raises CheckpointError for a folder without weights, missing shards, and files that are cut
    short or hold anything but weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[Path, _Shard] | None = None
        index = _index_in(path)
        if index is None:
            file = path if path.is_file() else _only_file(path)
            self._files = dict.fromkeys(self._shard(file).names(), file)
        else:
            self._files = _files_of(index)

    def __getitem__(self, name: str) -> torch.Tensor:
        file = self._files[name]
        try:
            return self._shard(file).tensor(name)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged header may lead to any
            if name in self._shard(file).names():
                raise _damaged(file, error) from error
            raise CheckpointError(
                f"{file}: holds no tensor {name!r}, which the index of its folder says it has; "
                "fetch the file again"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files, key=lambda name: (self._files[name], name)))

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def _shard(self, file: Path) -> _Shard:
        if self._open is None or self._open[0] != file:
            self._open = None  # let go of the last one first
            kind = _Safetensors if file.suffix == ".safetensors" else _TorchFile
            self._open = file, kind(file)
        return self._open[1]


class _Index(BaseModel):
    """What an index says: which file holds each tensor."""

    weight_map: dict[str, str]


class _Safetensors:
    def __init__(self, file: Path) -> None:
        try:
            self._file: Any = safe_open(file, "pt")
        except Exception as error:  # as above
            raise _damaged(file, error) from error

    def names(self) -> list[str]:
        return list(self._file.keys())

    def tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


class _TorchFile:
    def __init__(self, file: Path) -> None:
        self._tensors = {
            name: value
            for name, value in _unwrapped(file, _unpickled(file)).items()
            if isinstance(value, torch.Tensor)
        }

    def names(self) -> list[str]:
        return list(self._tensors)

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


def _unpickled(file: Path) -> Any:
    try:
        try:
            return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            # The format before torch 1.6 cannot be mapped.
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{file}: holds more than weights, and reading it could run code: {_refused(error)}; "
            "if you trust it, save its state dict alone with the library that wrote it, best as "
            "safetensors"
        ) from error
    except Exception as error:  # whatever a damaged pickle leads to
        raise _damaged(file, error) from error


def _refused(error: UnpicklingError) -> str:
    """Return which class torch does not read; it says so behind advice to read it all the same."""
    message = str(error)
    found = re.search(r"WeightsUnpickler error: (.+?)\.(?:\s|$)", message)
    return found[1] if found else message.partition("\n")[0]


def _unwrapped(file: Path, content: Any) -> dict[str, Any]:
    """Return the state dict inside what a torch file holds, names without ``module.``."""
    for _ in _NESTS:  # one in the other at most; a file may also hold itself
        if not isinstance(content, Mapping) or any(map(torch.is_tensor, content.values())):
            break
        inner = [content[name] for name in _NESTS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping) or not any(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{file}: holds no state dict; expected tensors by name")
    if all(str(name).startswith("module.") for name in content):  # of a parallel training
        return {str(name).removeprefix("module."): value for name, value in content.items()}
    return {str(name): value for name, value in content.items()}


def _index_in(folder: Path) -> Path | None:
    """Return the index of the shards in the folder, if it has one."""
    for suffix in SUFFIXES:
        for index in sorted(folder.glob(f"*{suffix}.index.json")):
            return index
        if any(folder.glob(f"*{suffix}")):
            return None
    return None


def _files_of(index: Path) -> dict[str, Path]:
    try:
        shards = _Index.model_validate_json(index.read_bytes()).weight_map
    except OSError as error:
        raise _damaged(index, error) from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise CheckpointError(f"{index}: is no index: {found}; fetch the file again") from error
    names = sorted(set(shards.values()))
    outside = [name for name in names if not _is_below(name)]
    if outside:
        raise CheckpointError(
            f"{index}: names {outside[0][:200]!r}, which is not in its folder; expected the names "
            "of the files beside it"
        )
    missing = [name for name in names if not os.path.isfile(index.parent / name)]
    if missing:
        raise CheckpointError(
            f"{index.parent}: lacks {len(missing)} of the {len(names)} files that {index.name} "
            f"names: {', '.join(missing[:5])}{' ...' if missing[5:] else ''}; fetch them too"
        )
    return {name: index.parent / shard for name, shard in shards.items()}


def _is_below(name: str) -> bool:
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def _only_file(folder: Path) -> Path:
    for suffix in SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}"))
        usual = [file for file in files if file.stem in _USUAL]
        if len(files) == 1 or usual:
            return (usual or files)[0]
        if files:
            raise CheckpointError(
                f"{folder}: holds {len(files)} files of weights and no index: "
                f"{', '.join(file.name for file in files[:5])}; give the path of one of them"
            )
    raise CheckpointError(
        f"{folder}: holds no weights; expected a file that ends in {', '.join(SUFFIXES)}"
    )


def _damaged(file: Path, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return CheckpointError(f"{file}: cannot be read: {reason}; fetch the file again")
