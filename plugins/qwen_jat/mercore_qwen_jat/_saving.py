"""Writing a trained network as it was published."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from torch import Tensor

from mercore.nn import Checkpoint, Rule, refilled
from mercore_qwen_jat._files import Published

SHARD = "5GB"
_MODEL = "network.model."


def save(found: Published, folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the trained `tensors`, and what was not trained as it was published.

    Weights keep the types that they were published in. Raises CheckpointError for a checkpoint that
    is gone by now.
    """
    own = {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items()}
    rules = [Rule(found.layout.output, "lm_head.weight"), *found.layout.rules()]
    whole = refilled(Checkpoint(found.folder), rules, own)
    save_torch_state_dict(whole, folder, max_shard_size=SHARD)
    for file in found.folder.iterdir():
        sizes = file.suffix == ".json" and not file.name.endswith(".index.json")
        if sizes or file.name == found.layout.tokenizer:
            shutil.copy(file, folder / file.name)
