"""What a checkpoint holds, as transformers reads it; never code of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from mercore.checkpoints import locate
from mercore.errors import CheckpointError, did_you_mean
from mercore.nn import quiet_transformers, read_json

CONFIG: Final = "config.json"
WANTED: Final = (CONFIG, ("model*.safetensors", "pytorch_model*.bin"))
USEFUL: Final = ("*.index.json", "preprocessor_config.json", "processor_config.json")

Modality = Literal["audio", "text", "image", "video"]
READS: Final[dict[str, Modality]] = {
    "input_values": "audio",
    "input_features": "audio",
    "input_ids": "text",
    "pixel_values": "image",
}
"""The main input of a network, by its name in transformers."""
TOWERS: Final[dict[Modality, str]] = {
    "audio": "audio_config",
    "text": "text_config",
    "image": "vision_config",
    "video": "vision_config",
}
"""Where the configuration of a network of several towers has that of each."""


@dataclass(frozen=True)
class Pretrained:
    """Where a checkpoint lies, and the network that it is read with."""

    folder: Path
    whole: Any
    """The configuration of all that the checkpoint holds."""
    config: Any
    """That of the encoder: of one tower where there are several."""
    kind: type[PreTrainedModel]
    """The class of the encoder."""


def found(
    checkpoint: str,
    modality: Modality,
    *,
    wanted: Sequence[str | tuple[str, ...]] = (),
    useful: Sequence[str] = (),
) -> Pretrained:
    """Return what to load for `modality`; CheckpointError where transformers has no such thing."""
    # A network that cannot be used is refused before its weights are fetched.
    folder = locate(checkpoint, wanted=[CONFIG])
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; give the folder that holds it and its {CONFIG} as checkpoint"
        )
    source = in_folder(folder, modality)
    locate(checkpoint, wanted=[*WANTED, *wanted], useful=[*USEFUL, *useful])
    return source


def in_folder(folder: Path, modality: Modality) -> Pretrained:
    """Return what to load from a folder; CheckpointError where transformers has no such thing."""
    whole = _config_in(folder)
    tower = getattr(whole, TOWERS[modality], None)
    config = tower if isinstance(tower, PreTrainedConfig) else whole
    kind = class_of(folder, config)
    _refuse_others(folder, config, kind, modality)
    # Of training, or of generating; without the first two there is no masked_spec_embed.
    for name, value in {
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
        "use_cache": False,
    }.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return Pretrained(folder, whole, config, kind)


def _config_in(folder: Path) -> PreTrainedConfig:
    file = folder / CONFIG
    told = read_json(file)
    model_type = told.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: model_type is {model_type!r}, which transformers {transformers.__version__} "
            f"does not have{did_you_mean(str(model_type), CONFIG_MAPPING)}; a newer release may "
            "have it (`pip install --upgrade transformers`), else it needs a plugin of its own"
        )
    if told.get("auto_map"):
        raise CheckpointError(
            f"{file}: a {model_type!r} model that brings code of its own (auto_map), which is "
            f"never run; where transformers' own {model_type!r} computes the same, delete "
            "`auto_map` from a copy of the folder, else it needs a plugin of its own"
        )
    try:
        with quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # each configuration checks itself in its own way
        raise CheckpointError(
            f"{file}: describes no {model_type!r} model: {said(error)}; fetch the file again"
        ) from error
    return config


def class_of(folder: Path, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class without a head; towers that AutoModel lacks are named as their config is."""
    # The first has encoders alone where the second has them with a decoder, as of T5.
    kind: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    kind = kind or MODEL_MAPPING.get(type(config), None)
    if isinstance(kind, (tuple, list)):
        kind = kind[0]
    if kind is None:
        name = type(config).__name__.removesuffix("Config") + "Model"
        kind = getattr(transformers, name, None)
    if kind is None:
        raise CheckpointError(
            f"{folder / CONFIG}: transformers has no encoder for the model_type "
            f"{config.model_type!r} alone; it needs a plugin of its own"
        )
    found: type[PreTrainedModel] = kind
    return found


def _refuse_others(
    folder: Path, config: Any, kind: type[PreTrainedModel], modality: Modality
) -> None:
    """Raise CheckpointError for a network that does not read `modality`."""
    reads = READS.get(kind.main_input_name)
    if reads == "image" and (hasattr(config, "num_frames") or hasattr(config, "tubelet_size")):
        reads = "video"
    if config.model_type == "vit_mae":
        raise CheckpointError(
            f"{folder / CONFIG}: transformers masks and shuffles the patches of 'vit_mae' at "
            "random; use the encoder vit_mae of mercore-vit_mae, which reads them all"
        )
    if reads != modality:
        cure = f"use transformers_{reads}" if reads else "it needs a plugin of its own"
        raise CheckpointError(
            f"{folder / CONFIG}: {config.model_type!r} reads {reads or kind.main_input_name!r}, "
            f"expected a network that reads {modality}; {cure}"
        )


def said(error: Exception) -> str:
    """Return the first lines of an error of the library in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
