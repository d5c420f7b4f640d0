"""What a checkpoint holds, and the sizes of its network: known before its weights are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import HubertConfig

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, read_json
from mercore_hubert import BESIDE
from mercore_hubert._layouts import FAIRSEQ, TRANSFORMERS, Layout, blocks, layout_of

CONFIG, PREPROCESSOR = BESIDE
WANTED: Final = (CONFIG, ("*.safetensors", "pytorch_model*.bin"))
USEFUL: Final = (PREPROCESSOR, "*.index.json")
RATE: Final = 16_000

# Of config.json: what the network is made of. The first six have to be there; the others are the
# same in all published ones but for conv_bias, and default to that.
_TOLD: Final = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("feat_extract_norm", "do_stable_layer_norm"),
    *("hidden_act", "layer_norm_eps", "feat_proj_layer_norm", "feat_extract_activation"),
    *("conv_dim", "conv_stride", "conv_kernel", "conv_bias"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "conv_pos_batch_norm"),
)
_REQUIRED: Final = 6


@dataclass(frozen=True)
class Published:
    """A checkpoint, and what is known before its weights are read."""

    weights: Checkpoint
    layout: Layout
    config: HubertConfig
    """Of the whole network, all its blocks."""
    normalise: bool
    """Whether it was trained on audio of mean 0 and variance 1."""

    @property
    def mask(self) -> torch.Tensor | None:
        """What stands for a masked frame, ``(dim,)``; None where the checkpoint has none."""
        names = [name for name in self.weights if re.fullmatch(self.layout.mask, name)]
        return self.weights[names[0]].float() if names else None

    def described(self) -> dict[str, dict[str, Any]]:
        """Return the files that stand beside its weights in the layout of transformers."""
        path = self.weights.path
        told = _told_in(_folder(path)) if self.layout is TRANSFORMERS else {}
        known = {name: getattr(self.config, name) for name in _TOLD}
        masked = self.config.feat_extract_norm == "layer"
        return {
            CONFIG: {**told, "architectures": ["HubertModel"], "model_type": "hubert", **known},
            PREPROCESSOR: {
                "do_normalize": self.normalise,
                "feature_extractor_type": "Wav2Vec2FeatureExtractor",
                "feature_size": 1,
                "padding_side": "right",
                "padding_value": 0.0,
                "return_attention_mask": masked,
                "sampling_rate": RATE,
            },
        }


def published(checkpoint: str) -> Published:
    """Return what `checkpoint` holds; raises CheckpointError where that is no HuBERT."""
    path = locate(checkpoint, wanted=WANTED, useful=USEFUL)
    if path.is_dir():
        _told_in(path)  # before a large file is opened
    weights = Checkpoint(path)
    layout = layout_of(weights)
    if layout is FAIRSEQ:
        config = _config_of(weights)
        return Published(weights, layout, config, config.feat_extract_norm == "layer")
    folder = _folder(path)
    config = _config_in(folder, weights)
    return Published(weights, layout, config, _normalise(folder, config))


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _config_in(folder: Path, weights: Checkpoint) -> HubertConfig:
    """Return what config.json says, checked where the weights alone can tell."""
    told = _told_in(folder)
    biased = any(re.search(r"conv_layers\.\d+\.conv\.bias$", name) for name in weights)
    # Large ones say they have biases there, and some of their files have none.
    known = {name: told[name] for name in _TOLD if name in told} | {
        "conv_bias": bool(told.get("conv_bias")) and biased
    }
    try:
        config = HubertConfig(**known)
    except (StrictDataclassError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder / CONFIG}: describes no HuBERT: {reason}") from error
    numbers = blocks(weights, TRANSFORMERS)
    if numbers != list(range(config.num_hidden_layers)):
        raise CheckpointError(
            f"{weights.path}: has {len(numbers)} blocks{_up_to(numbers)}, but {CONFIG} says "
            f"num_hidden_layers: {config.num_hidden_layers}; was the checkpoint cut, or is the "
            "config of another one?"
        )
    return config


def _told_in(folder: Path) -> Mapping[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"{folder}: has no {CONFIG}, which says the sizes of weights in the layout of "
            "transformers; put it beside them"
        )
    told = read_json(file)
    if told.get("model_type") != "hubert":
        raise CheckpointError(
            f"{file}: is of a {told.get('model_type')!r} model, expected 'hubert'; give a "
            "checkpoint of HuBERT"
        )
    missing = [name for name in _TOLD[:_REQUIRED] if name not in told]
    if missing:
        raise CheckpointError(f"{file}: lacks {', '.join(missing)}; fetch the file again")
    if told["feat_extract_norm"] not in ("group", "layer"):
        raise CheckpointError(
            f"{file}: feat_extract_norm is {told['feat_extract_norm']!r}, expected 'group' or "
            "'layer'"
        )
    return told


def _normalise(folder: Path, config: HubertConfig) -> bool:
    file = folder / PREPROCESSOR
    told = read_json(file) if file.is_file() else {}
    rate = told.get("sampling_rate", RATE)
    if rate != RATE:
        raise CheckpointError(f"{file}: sampling_rate is {rate!r}, expected {RATE}")
    return bool(told.get("do_normalize", config.feat_extract_norm == "layer"))


def _config_of(weights: Checkpoint) -> HubertConfig:
    """Return the sizes that fairseq's weights have; their strides and heads are as published."""
    numbers = blocks(weights, FAIRSEQ)
    if not numbers or numbers != list(range(len(numbers))):
        raise CheckpointError(
            f"{weights.path}: has {len(numbers)} blocks{_up_to(numbers)}; was the checkpoint cut?"
        )
    convs: list[torch.Size] = []
    while names := _named(weights, rf"feature_extractor\.conv_layers\.{len(convs)}\.0\.weight"):
        convs.append(weights[names[0]].shape)
    hidden, _ = _shape(weights, r"post_extract_proj\.weight", 2)
    _, grouped, kernel = _shape(weights, FAIRSEQ.conv + r"weight_v", 3)
    normed = bool(_named(weights, r"feature_extractor\.conv_layers\.0\.2\.1\.weight"))
    return HubertConfig(
        hidden_size=hidden,
        num_hidden_layers=len(numbers),
        num_attention_heads=_heads(weights, hidden),
        intermediate_size=_shape(weights, r"encoder\.layers\.0\.fc1\.weight", 2)[0],
        feat_extract_norm="layer" if normed else "group",
        do_stable_layer_norm=normed,
        conv_dim=[shape[0] for shape in convs],
        conv_kernel=[shape[2] for shape in convs],
        conv_stride=[5, *(2 for _ in convs[1:])],
        conv_bias=bool(_named(weights, r"feature_extractor\.conv_layers\.\d+\.0\.bias")),
        num_conv_pos_embeddings=kernel,
        num_conv_pos_embedding_groups=hidden // grouped,
    )


def _heads(weights: Checkpoint, hidden: int) -> int:
    """Return the number of heads, which the weights cannot tell: 64 wide, and 80 in xlarge."""
    heads, rest = divmod(hidden, 80 if hidden == 1280 else 64)
    if rest:
        raise CheckpointError(
            f"{weights.path}: is {hidden} wide, which no published HuBERT of fairseq is, so that "
            "its number of heads is not known; convert it to the layout of transformers"
        )
    return heads


def _shape(weights: Checkpoint, pattern: str, dims: int) -> tuple[int, ...]:
    for name in _named(weights, pattern):
        shape = tuple(weights[name].shape)
        if len(shape) == dims:
            return shape
        raise CheckpointError(f"{weights.path}: {name} has the shape {shape}, expected {dims} axes")
    wanted = pattern.replace("\\", "")
    raise CheckpointError(f"{weights.path}: lacks {wanted}; was the checkpoint cut?")


def _named(weights: Checkpoint, pattern: str) -> list[str]:
    whole = re.compile(FAIRSEQ.prefix + pattern)
    return [name for name in weights if whole.fullmatch(name)]


def _up_to(numbers: list[int]) -> str:
    return f" with numbers up to {numbers[-1]}" if numbers else ""
