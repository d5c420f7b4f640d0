"""The two published layouts of MossFormer2: which names its weights have, and which shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule, built, fill, read_json
from mercore_mossformer2._layers import Weights

WANTED: Final = (("*.safetensors", "pytorch_model*.bin", "*.pt"),)
NOTE, CONFIGURATION = "last_best_checkpoint", "configuration.json"
USEFUL: Final = (NOTE, CONFIGURATION, "*.index.json")
PREFIX: Final = "model."
"""Stands before every name in the layout of clearvoice."""
EXPANSION, QUERIES, ROTATED, INNER = 4, 128, 32, 256
TAPS, MEMORY = 17, 39
SPEAKERS: Final = 2

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of weights by name; those of a part are without what their names share."""


@dataclass(frozen=True)
class Published:
    """A checkpoint that was read."""

    weights: Weights
    """In float32, by the names of ModelScope."""
    blocks: int
    rate: int
    """Of the audio it was trained on, in Hz."""


def published(checkpoint: str, rate: int | None = None) -> Published:
    """Return what `checkpoint` holds; raises CheckpointError where that is no MossFormer2."""
    path = locate(checkpoint, wanted=WANTED, useful=USEFUL)
    found = Checkpoint(_noted(path))
    clearvoice = any(name.startswith(PREFIX) for name in found)
    blocks = _blocks(found)
    channels, kernel = _size(found, "enc.conv1d.weight", 2)
    wanted = shapes(channels, kernel, blocks)
    module = fill(
        built(lambda: _Named(wanted)),
        found,
        [Rule(rf"{re.escape(PREFIX)}(.*)", r"\1")] if clearvoice else [],
        dtype=torch.float32,
        device="cpu",
    )
    told = rate or _told(path) or (16_000 if clearvoice else 8_000)
    return Published(dict(module.named_parameters()), blocks, told)


def shapes(channels: int, kernel: int, blocks: int) -> Shapes:
    """Return the shape of each weight, by the names of ModelScope."""
    deep = "mdl.intra_mdl.mossformerM."
    parts: dict[str, Shapes] = {
        f"{deep}layers.{number}.": _attention(channels) for number in range(blocks)
    }
    parts |= {f"{deep}fsmn.{number}.": _memory(channels) for number in range(blocks)}
    whole = {part + name: shape for part, own in parts.items() for name, shape in own.items()}
    square = (channels, channels, 1)
    whole |= {
        **_norm("norm", channels),
        "conv1d_encoder.weight": square,
        "pos_enc.scale": (1,),
        "pos_enc.inv_freq": (channels // 2,),
        **_norm("mdl.intra_mdl.norm", channels),
        **_norm("mdl.intra_norm", channels),
        **_layer("conv1d_out", SPEAKERS * channels, channels, 1),
        "conv1_decoder.weight": square,
        "prelu.weight": (1,),
        **_layer("output.0", *square),
        **_layer("output_gate.0", *square),
    }
    ends = dict.fromkeys(("enc.conv1d.weight", "dec.weight"), (channels, 1, kernel))
    return ends | {f"mask_net.{name}": shape for name, shape in whole.items()}


def _attention(channels: int) -> Shapes:
    hidden = EXPANSION * channels
    return {
        "rotary_pos_emb.freqs": (ROTATED // 2,),
        "qk_offset_scale.gamma": (4, QUERIES),
        "qk_offset_scale.beta": (4, QUERIES),
        **_projection("to_hidden", hidden, channels, scaled=True),
        **_projection("to_qk", QUERIES, channels, scaled=True),
        **_projection("to_out", channels, hidden // 2, scaled=True),
    }


def _memory(channels: int) -> Shapes:
    dense = "gated_fsmn.fsmn.conv."
    return {
        **_layer("conv1.0", INNER, channels, 1),
        "conv1.1.weight": (1,),
        **_norm("norm1", INNER),
        **_projection("gated_fsmn.to_u", INNER, INNER, scaled=False),
        **_projection("gated_fsmn.to_v", INNER, INNER, scaled=False),
        **_layer("gated_fsmn.fsmn.linear", INNER, INNER),
        "gated_fsmn.fsmn.project.weight": (INNER, INNER),
        f"{dense}conv1.weight": (INNER, 1, MEMORY, 1),
        f"{dense}conv2.weight": (INNER, 2, MEMORY, 1),
        **_norm(f"{dense}norm1", INNER),
        **_norm(f"{dense}norm2", INNER),
        f"{dense}prelu1.weight": (INNER,),
        f"{dense}prelu2.weight": (INNER,),
        **_norm("norm2", INNER),
        **_layer("conv2", channels, INNER, 1),
    }


def _projection(name: str, out: int, into: int, *, scaled: bool) -> Shapes:
    norm: Shapes = {f"{name}.mdl.0.g": (1,)} if scaled else _norm(f"{name}.mdl.0", into)
    return {
        **norm,
        **_layer(f"{name}.mdl.1", out, into),
        f"{name}.mdl.3.sequential.1.conv.weight": (out, 1, TAPS),
    }


def _layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


class _Named(nn.Module):
    """Holds parameters of these names and shapes, and computes nothing."""

    def __init__(self, wanted: Shapes) -> None:
        super().__init__()
        for name, shape in wanted.items():
            *path, leaf = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.register_parameter(leaf, nn.Parameter(torch.empty(shape), requires_grad=False))


def _noted(path: Path) -> Path:
    """Return the file of weights that a folder of clearvoice names, or `path` as it is."""
    note = path / NOTE
    if not note.is_file() or any(path.glob("*.safetensors")):
        return path
    name = note.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    file = path / Path(name).name
    if not name or not file.is_file():
        raise CheckpointError(
            f"{note}: names {name!r}, which is no file of its folder; found "
            f"{', '.join(sorted(own.name for own in path.iterdir())[:9])}; fetch the file too"
        )
    return file


def _told(path: Path) -> int | None:
    """Return the rate in Hz that configuration.json of ModelScope says, if it does."""
    file = path / CONFIGURATION
    model = read_json(file).get("model") if file.is_file() else None
    kind = str(model.get("type")) if isinstance(model, dict) else ""
    found = re.search(r"_(8|16)k\b", kind)
    return int(found[1]) * 1000 if found else None


def _blocks(weights: Checkpoint) -> int:
    numbers = sorted(set(_numbers(weights)))
    if not numbers or numbers != list(range(len(numbers))):
        held = f"blocks {numbers}" if numbers else f"{', '.join(sorted(weights)[:5])} ..."
        raise CheckpointError(
            f"{weights.path}: holds {held}, expected blocks 0, 1, ... of a MossFormer2 for "
            "separation; was the checkpoint cut, or is it of another network?"
        )
    return len(numbers)


def _numbers(weights: Checkpoint) -> Iterator[int]:
    for name in weights:
        if found := re.search(r"mossformerM\.layers\.(\d+)\.", name):
            yield int(found[1])


def _size(weights: Checkpoint, name: str, dims: int) -> tuple[int, int]:
    """Return the channels and the kernel of the encoder."""
    for own in (name, PREFIX + name):
        if own in weights and weights[own].dim() == dims + 1:
            shape = weights[own].shape
            return shape[0], shape[-1]
    raise CheckpointError(f"{weights.path}: lacks {name} of three axes; was the checkpoint cut?")
