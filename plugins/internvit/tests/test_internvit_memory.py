"""What loading costs the host, measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_internvit as tiny
import torch

# 101 million weights: 201 MB in bfloat16.
CONFIG = {
    **tiny.SIX_B,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
}
SHARDS = 8
PROBE = """
import json, re, sys
from pathlib import Path

import numpy as np
from mercore.media import Frames
from mercore_internvit import InternViT
from mercore_internvit import _model  # the libraries count before, not the weights

def kib(key):
    return int(re.search(rf"{key}:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

before = kib("VmRSS")
encode = InternViT(checkpoint=sys.argv[1], pool="cls").load("cpu", sys.argv[2])
pixels = np.zeros((1, 42, 42, 3), np.uint8)
encode([{"frames": Frames(pixels, np.zeros(1))}])  # touches all weights, mapped or not
weights = sum(p.numel() * p.element_size() for p in encode._tower.parameters())
print(json.dumps({"weights": weights, "peak": (kib("VmHWM") - before) * 1024}))
"""


MIB = 2**20


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_loading_takes_little_more_than_the_weights_in_the_asked_type(
    stored: torch.dtype, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path, "internvit", CONFIG, shards=SHARDS, dtype=stored)
    command = [sys.executable, "-c", PROBE, str(folder), "bfloat16"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    shard = max(file.stat().st_size for file in folder.glob("*.safetensors"))
    print({name: round(size / MIB) for name, size in {**found, "shard": shard}.items()}, "MiB")
    assert found["weights"] > 190 * MIB
    # Room for one shard as it is stored, and for what torch sets up when it first runs. A copy of
    # the weights in float32 would take twice their size in bfloat16 on top.
    assert found["peak"] < found["weights"] + shard + 50 * MIB
