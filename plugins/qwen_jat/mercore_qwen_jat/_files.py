"""The files of a checkpoint: found, and told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import parsed, read_json
from mercore_qwen_jat._qwen2_audio import Qwen2Audio
from mercore_qwen_jat._qwen_audio import QwenAudio
from mercore_qwen_jat._tokens import FAST, TIKTOKEN, FastTokens, TiktokenTokens, Tokens

EXPECTED: Final = (
    "Qwen/Qwen-Audio, Qwen/Qwen-Audio-Chat, Qwen/Qwen2-Audio-7B or Qwen/Qwen2-Audio-7B-Instruct"
)


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
