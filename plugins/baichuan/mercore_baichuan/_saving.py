"""Writing a trained network as it was published."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from torch import Tensor

from mercore.nn import Checkpoint, Rule, refilled
from mercore_baichuan import BESIDE
from mercore_baichuan._layouts import rules
from mercore_baichuan._network import Published

SHARD = "5GB"
_MODEL = "decoder.model."


def save(found: Published, folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the trained `tensors`, and what was not trained as it was published.

    Weights keep the types that they were published in. Raises CheckpointError for a checkpoint that
    is gone by now.
    """
    own = {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items()}
    places = [Rule(r"lm_head\.weight", "lm_head.weight")]
    places += rules(found.sizes.num_hidden_layers, norm=True)
    whole = refilled(Checkpoint(found.path), places, own)
    save_torch_state_dict(whole, folder, max_shard_size=SHARD)
    for name in BESIDE:
        if (found.folder / name).is_file():
            shutil.copy(found.folder / name, folder / name)
