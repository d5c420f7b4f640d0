"""Tiny MossFormer2s with random weights, in the two layouts that the real ones are published in.

Every name is written by hand from the published files; nothing that reads them is used. Only the
width and the number of blocks are small: 256 channels of memory and 128 of queries are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]

WIDTH, BLOCKS, KERNEL = 16, 2, 16
QUERIES, INNER = 128, 256

CONFIGURATION: Mapping[str, Any] = {
    "framework": "pytorch",
    "task": "speech-separation",
    "model": {
        "type": "speech_mossformer2_separation_temporal_8k",
        "in_channels": WIDTH,
        "out_channels": WIDTH,
        "num_blocks": BLOCKS,
        "kernel_size": KERNEL,
        "norm": "ln",
        "num_spks": 2,
        "skip_around_intra": True,
        "use_global_pos_enc": True,
        "max_length": 20000,
    },
    "pipeline": {"type": "speech_mossformer2_separation_temporal_8k"},
}


def write(folder: Path, rate: int = 16_000, *, blocks: int = BLOCKS, seed: int = 0) -> Path:
    """Write a checkpoint as published for this rate; return the folder.

    8,000 Hz: pytorch_model.bin and configuration.json, as on ModelScope. 16,000 Hz: a file that is
    named in last_best_checkpoint, as clearvoice reads it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = tensors(blocks=blocks, seed=seed)
    if rate == 8_000:
        torch.save(found, folder / "pytorch_model.bin")
        (folder / "configuration.json").write_text(json.dumps(CONFIGURATION))
        return folder
    torch.save({"model": clearvoice(found)}, folder / "last_best_checkpoint.pt")
    (folder / "last_best_checkpoint").write_text("last_best_checkpoint.pt\n")
    return folder


def clearvoice(found: Tensors) -> Tensors:
    """Return the names of clearvoice."""
    return {f"model.{name}": tensor for name, tensor in found.items()}


def tensors(width: int = WIDTH, blocks: int = BLOCKS, seed: int = 0) -> Tensors:
    """Return weights under the names of ModelScope."""
    numbers = torch.Generator().manual_seed(seed)
    found: Tensors = {}

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers) * scale

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        fan = torch.Size(shape[1:]).numel()
        found[f"{name}.weight"] = random(*shape, scale=fan**-0.5)
        if bias:
            found[f"{name}.bias"] = random(shape[0], scale=0.1)

    def norm(name: str, size: int) -> None:
        found[f"{name}.weight"] = 1 + random(size, scale=0.2)
        found[f"{name}.bias"] = random(size, scale=0.2)

    def projection(name: str, out: int, into: int, *, scaled: bool) -> None:
        if scaled:
            found[f"{name}.mdl.0.g"] = 1 + random(1, scale=0.2)
        else:
            norm(f"{name}.mdl.0", into)
        layer(f"{name}.mdl.1", out, into)
        layer(f"{name}.mdl.3.sequential.1.conv", out, 1, 17, bias=False)

    layer("enc.conv1d", width, 1, KERNEL, bias=False)
    layer("dec", width, 1, KERNEL, bias=False)
    net = "mask_net"
    norm(f"{net}.norm", width)
    layer(f"{net}.conv1d_encoder", width, width, 1, bias=False)
    found[f"{net}.pos_enc.scale"] = random(1)
    found[f"{net}.pos_enc.inv_freq"] = 10000.0 ** -(torch.arange(0, width, 2) / width)
    for block in range(blocks):
        name = f"{net}.mdl.intra_mdl.mossformerM.layers.{block}"
        found[f"{name}.rotary_pos_emb.freqs"] = 10000.0 ** -(torch.arange(0, 32, 2) / 32)
        projection(f"{name}.to_hidden", 4 * width, width, scaled=True)
        projection(f"{name}.to_qk", QUERIES, width, scaled=True)
        found[f"{name}.qk_offset_scale.gamma"] = random(4, QUERIES)
        found[f"{name}.qk_offset_scale.beta"] = random(4, QUERIES, scale=0.5)
        projection(f"{name}.to_out", width, 2 * width, scaled=True)
        name = f"{net}.mdl.intra_mdl.mossformerM.fsmn.{block}"
        layer(f"{name}.conv1.0", INNER, width, 1)
        found[f"{name}.conv1.1.weight"] = torch.tensor([0.25])
        norm(f"{name}.norm1", INNER)
        projection(f"{name}.gated_fsmn.to_u", INNER, INNER, scaled=False)
        projection(f"{name}.gated_fsmn.to_v", INNER, INNER, scaled=False)
        fsmn = f"{name}.gated_fsmn.fsmn"
        layer(f"{fsmn}.linear", INNER, INNER)
        layer(f"{fsmn}.project", INNER, INNER, bias=False)
        for number in (1, 2):
            layer(f"{fsmn}.conv.conv{number}", INNER, number, 39, 1, bias=False)
            norm(f"{fsmn}.conv.norm{number}", INNER)
            found[f"{fsmn}.conv.prelu{number}.weight"] = 0.25 + random(INNER, scale=0.1)
        norm(f"{name}.norm2", INNER)
        layer(f"{name}.conv2", width, INNER, 1)
    norm(f"{net}.mdl.intra_mdl.norm", width)
    norm(f"{net}.mdl.intra_norm", width)
    layer(f"{net}.conv1d_out", 2 * width, width, 1)
    layer(f"{net}.conv1_decoder", width, width, 1, bias=False)
    found[f"{net}.prelu.weight"] = torch.tensor([0.25])
    layer(f"{net}.output.0", width, width, 1)
    layer(f"{net}.output_gate.0", width, width, 1)
    return found
