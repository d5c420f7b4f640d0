"""Writing a trained network as it was published."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from mercore.nn import Checkpoint
from mercore_baichuan import BESIDE
from mercore_baichuan._layouts import packed_name
from mercore_baichuan._network import Published

SHARD = "5GB"
_MODEL = "decoder.model."


def save(found: Published, folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the trained `tensors`, and what was not trained as it was published.

    Weights keep the types that they were published in. Raises CheckpointError for a checkpoint that
    is gone by now.
    """
    own: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith(_MODEL):
            published, part = packed_name(name.removeprefix(_MODEL))
            own[published][part] = tensor
        elif name.startswith("lm_head."):
            own[name][0] = tensor
    checkpoint = Checkpoint(found.path)
    whole = {name: _joined(own.get(name), checkpoint[name]) for name in checkpoint}
    save_torch_state_dict(whole, folder, max_shard_size=SHARD)
    for name in BESIDE:
        if (found.folder / name).is_file():
            shutil.copy(found.folder / name, folder / name)


def _joined(parts: Mapping[int, Tensor] | None, before: Tensor) -> Tensor:
    if parts is None:
        return before
    return torch.cat([parts[number] for number in sorted(parts)]).to("cpu", before.dtype)
