"""What loading costs the host, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_internvit as tiny
import torch

MIB = 2**20
# 43 million weights: 81 MiB in bfloat16.
CONFIG = {
    **tiny.SIX_B,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
}
PROBE = """
import json, os, re, sys
from pathlib import Path

import numpy as np
from mercore.media import Frames
from mercore_internvit import InternViT
from mercore_internvit import _model  # the libraries count before, not the weights

def kib(key):
    return int(re.search(rf"{key}:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

def measure(folder):
    before = kib("VmRSS")
    encode = InternViT(checkpoint=folder, pool="cls").load("cpu", "bfloat16")
    pixels = np.zeros((1, 42, 42, 3), np.uint8)
    encode([{"frames": Frames(pixels, np.zeros(1))}])  # touches all weights, mapped or not
    weights = sum(p.numel() * p.element_size() for p in encode._tower.parameters())
    print(json.dumps({"weights": weights, "peak": (kib("VmHWM") - before) * 1024}), flush=True)

for folder in sys.argv[1:]:
    child = os.fork()  # its peak begins anew
    if not child:
        measure(folder)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_loading_takes_little_more_than_the_weights_in_the_asked_type(tmp_path: Path) -> None:
    folders = [
        tiny.write(tmp_path / str(stored), "internvit", CONFIG, shards=8, dtype=stored)
        for stored in (torch.bfloat16, torch.float32)
    ]
    command = [sys.executable, "-c", PROBE, *map(str, folders)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for folder, line in zip(folders, output.splitlines(), strict=True):
        found = json.loads(line)
        shard = max(file.stat().st_size for file in folder.glob("*.safetensors"))
        print(folder.name, {k: round(v / MIB) for k, v in {**found, "shard": shard}.items()}, "MiB")
        assert found["weights"] > 80 * MIB
        # Room for one shard as it is stored, and for what torch sets up when it first runs. A copy
        # of the weights in float32 would take twice their size in bfloat16 on top.
        assert found["peak"] < found["weights"] + shard + 50 * MIB
