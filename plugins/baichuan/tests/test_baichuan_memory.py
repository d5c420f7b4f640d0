"""How much memory the host needs to load a checkpoint: a scaled-down 13B, in processes of its own.

The 13B itself would take 24.7 GiB in bfloat16. What counts is the resident memory at its highest,
mapped files included, above that of the process with all libraries imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import tiny_baichuan
import torch

SIZES: Final = {"hidden_size": 960, "intermediate_size": 2568, "num_attention_heads": 40}
BLOCKS: Final = 9
SHARDS: Final = 10
MIB: Final = 2**20

# Each case is forked from a process that has imported everything, and runs a tiny model first, so
# that the libraries do not count.
MEASURE = """
import json, os, sys
import torch
from mercore.media import Text
from mercore_baichuan import Baichuan
from mercore_baichuan._model import BaichuanModel

def memory(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024

def measured(checkpoint, layers):
    before = memory("VmRSS")
    model = BaichuanModel(Baichuan(checkpoint=checkpoint, layers=layers), "cpu", "bfloat16")
    loaded = memory("VmHWM") - before
    matrix = model([{"text": Text("Why did you leave me alone?")}])[0]
    assert matrix.any()
    return {"loaded": loaded, "run": memory("VmHWM") - before}

tiny = sys.argv[1]
for line in sys.stdin:
    if os.fork() == 0:
        measured(tiny, [-1])
        print(json.dumps(measured(*json.loads(line))), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit("a case failed")
"""


Case = tuple[str, tiny_baichuan.Layout, torch.dtype]
CASES: Final[list[Case]] = [
    ("bin", "bin", torch.bfloat16),
    ("safetensors", "safetensors", torch.bfloat16),
    ("float32", "bin", torch.float32),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_loading_takes_little_more_than_the_weights(tmp_path: Path) -> None:
    config = tiny_baichuan.config_of("13b") | SIZES | {"num_hidden_layers": 1}
    size = _write(tmp_path, config)
    runs = [(str(tmp_path / name), [-1]) for name, _, _ in CASES] + [(str(tmp_path / "bin"), [3])]
    try:
        found = _measured(tiny_baichuan.write(tmp_path / "tiny"), runs)
        shards = [max(file.stat().st_size for file in Path(run[0]).glob("*-of-*")) for run in runs]
    finally:
        for name, _, _ in CASES:
            shutil.rmtree(tmp_path / name)
    print(f"\nweights in bfloat16: {size / MIB:.0f} MiB")
    for (folder, layers), peak, shard in zip(runs, found, shards, strict=True):
        print(
            f"{Path(folder).name}, layers {layers}: {peak['loaded'] / MIB:.0f} MiB loaded, "
            f"{peak['run'] / MIB:.0f} MiB with a run, from shards of {shard / MIB:.0f} MiB"
        )
        share = 1 if layers == [-1] else 3 / BLOCKS
        # Above the weights wanted: a shard, embedding and head, and what a run takes.
        assert share * size * 0.9 < peak["run"] < share * size + shard + 16 * MIB


def _write(folder: Path, config: Mapping[str, Any]) -> int:
    """Write the checkpoints of all cases; return how many bytes the weights have in bfloat16."""
    block = tiny_baichuan.weights_of(config)
    weights = {name: tensor for name, tensor in block.items() if ".layers." not in name}
    for number in range(BLOCKS):  # all blocks alike, which takes less time
        for name in filter(lambda name: ".layers.0." in name, block):
            weights[name.replace(".0.", f".{number}.")] = block[name]
    for name, layout, dtype in CASES:
        tiny_baichuan.write_rest(folder / name, {**config, "num_hidden_layers": BLOCKS})
        own = {key: tensor.to(dtype, copy=True) for key, tensor in weights.items()}
        tiny_baichuan.save(folder / name, dict(sorted(own.items())), layout, SHARDS)
    return sum(2 * tensor.numel() for tensor in weights.values())


def _measured(tiny: Path, runs: Sequence[tuple[str, list[int]]]) -> list[dict[str, int]]:
    """Return the highest resident memory of each run, in bytes."""
    command = [sys.executable, "-c", MEASURE, str(tiny)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # forking and threads do not mix
    given = "".join(f"{json.dumps(run)}\n" for run in runs)
    answer = subprocess.run(
        command, env=alone, input=given, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]
