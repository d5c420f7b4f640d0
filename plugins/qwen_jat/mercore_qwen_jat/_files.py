"""The files of a checkpoint: found, told apart, and its network filled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, built, fill, parsed, read_json
from mercore_qwen_jat._qwen2_audio import Qwen2Audio
from mercore_qwen_jat._qwen_audio import QwenAudio
from mercore_qwen_jat._tokens import FAST, TIKTOKEN, FastTokens, TiktokenTokens, Tokens
from mercore_qwen_jat._tower import JointModel

EXPECTED: Final = (
    "Qwen/Qwen-Audio, Qwen/Qwen-Audio-Chat, Qwen/Qwen2-Audio-7B or Qwen/Qwen2-Audio-7B-Instruct"
)


@dataclass(frozen=True)
class Published:
    """A checkpoint; its weights are looked at when a network is filled."""

    folder: Path
    layout: QwenAudio | Qwen2Audio
    tokens: Tokens

    def filled(
        self, layers: int, *, dtype: torch.dtype, device: str, float32: str | None = None
    ) -> JointModel:
        """Return the network with the first layers of the language model, and its weights.

        Weights whose names match `float32` have that type in place of `dtype`.
        """
        checkpoint = Checkpoint(self.folder)
        self.layout.check(checkpoint)
        rules = self.layout.cut(layers)
        empty = self.empty(layers)
        return fill(empty, checkpoint, rules, dtype=dtype, device=device, float32=float32)

    def empty(self, layers: int) -> JointModel:
        """Return the same with parameters that take no memory yet."""
        layout = self.layout
        audio, text, whole = layout.audio, layout.text(layers), layers == layout.depth
        return built(lambda: JointModel(audio, text, markers=layout.markers, norm=whole))


def published(checkpoint: str) -> Published:
    """Return what the checkpoint is, fetched if it has to be; raises CheckpointError."""
    folder = located(checkpoint)
    layout = layout_of(folder)
    return Published(folder, layout, tokens_of(folder, layout))


def located(checkpoint: str) -> Path:
    """Return the folder of the checkpoint, fetched if it has to be."""
    weights = ("*.safetensors", "pytorch_model*.bin", "*.bin")
    path = locate(
        checkpoint, wanted=["config.json", weights, (TIKTOKEN, FAST)], useful=["*.index.json"]
    )
    if path.is_file():
        raise CheckpointError(
            f"{path}: is a file; expected the folder of {EXPECTED}, with its config.json and "
            f"{TIKTOKEN} or {FAST}"
        )
    return path


def tokens_of(folder: Path, layout: QwenAudio | Qwen2Audio) -> Tokens:
    """Return the tokenizer; raises CheckpointError where it is not that of the weights."""
    file = folder / layout.tokenizer
    if not file.exists():
        raise CheckpointError(f"{file}: does not exist; fetch the file published with {EXPECTED}")
    tokens: Tokens = TiktokenTokens(file) if layout.markers else FastTokens(file)
    missing = [token for token in layout.span if tokens.number(token) is None]
    if missing:
        raise CheckpointError(
            f"{file}: has no token {', '.join(missing)}; expected the file of {EXPECTED}"
        )
    token, number = layout.placeholder
    if tokens.number(token) != number or tokens.size > layout.vocabulary:
        raise CheckpointError(
            f"{file}: {token} is number {tokens.number(token)} of {tokens.size}, but config.json "
            f"says {number} of at most {layout.vocabulary}; was a file cut, or is it that of "
            "another checkpoint?"
        )
    return tokens


def layout_of(folder: Path) -> QwenAudio | Qwen2Audio:
    """Return the layout of the checkpoint; raises CheckpointError for another model."""
    file = folder / "config.json"
    config = read_json(file)
    kind = config.get("model_type")
    if kind == "qwen2_audio":
        model: type[QwenAudio | Qwen2Audio] = Qwen2Audio
    elif kind == "qwen" and isinstance(config.get("audio"), dict):
        model = QwenAudio
    else:
        deaf = ", which does not hear" if kind == "qwen" else ""
        raise CheckpointError(f"{file}: is of a {kind!r} model{deaf}; expected {EXPECTED}")
    return parsed(model, file, config, EXPECTED)
