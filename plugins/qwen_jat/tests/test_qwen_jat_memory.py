"""What loading costs the host, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_qwen_jat as tiny
import torch

MIB = 2**20
# 55 million weights beside the head: 106 MiB in bfloat16.
CONFIG: dict[str, Any] = {
    **tiny.QWEN_AUDIO,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "kv_channels": 128,
    "intermediate_size": 5632,
    "num_hidden_layers": 4,
    "audio": {**tiny.QWEN_AUDIO["audio"], "output_dim": 1024},
}
PROBE = """
import json, os, re, sys
from pathlib import Path

import numpy as np
from mercore.media import Text, Waveform
from mercore_qwen_jat import QwenJAT
from mercore_qwen_jat import _model  # the libraries count before, not the weights

def kib(key):
    return int(re.search(rf"{key}:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

def measure(folder):
    before = kib("VmRSS")
    encode = QwenJAT(checkpoint=folder, prompt="").load("cpu", "bfloat16")
    # Touches all weights, mapped or not.
    encode([{"audio": Waveform(np.zeros(4000, np.float32), 16_000), "text": Text("the")}])
    weights = sum(p.numel() * p.element_size() for p in encode._model.parameters())
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
    folders, weights = [], tiny.published("qwen_audio", CONFIG)
    for stored in (torch.bfloat16, torch.float32):
        folders.append(tiny.write(tmp_path / str(stored), config=CONFIG, shards=0))
        tiny.save(folders[-1], {n: v.to(stored) for n, v in weights.items()}, shards=8)
    command = [sys.executable, "-c", PROBE, *map(str, folders)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for folder, line in zip(folders, output.splitlines(), strict=True):
        found = json.loads(line)
        shard = max(file.stat().st_size for file in folder.glob("*.safetensors"))
        print(folder.name, {k: round(v / MIB) for k, v in {**found, "shard": shard}.items()}, "MiB")
        assert found["weights"] > 100 * MIB
        # Room for one shard as it is stored, and for what torch sets up when it first runs. A copy
        # of the weights in float32 would take twice their size in bfloat16 on top.
        assert found["peak"] < found["weights"] + shard + 50 * MIB
