"""A network of transformers from a folder, its weights accounted for; never code of the folder."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import transformers
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as reports

from mercore.checkpoints import locate
from mercore.errors import CheckpointError, RunError, did_you_mean, few, listed
from mercore.nn import Checkpoint, dtype_of, read_json

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
    folder = locate(checkpoint, wanted=[*WANTED, *wanted], useful=[*USEFUL, *useful])
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; give the folder that holds it and its {CONFIG} as checkpoint"
        )
    return in_folder(folder, modality)


def in_folder(folder: Path, modality: Modality) -> Pretrained:
    """Return what to load from a folder; CheckpointError where transformers has no such thing."""
    whole = _config_in(folder)
    tower = getattr(whole, TOWERS[modality], None)
    config = tower if isinstance(tower, PreTrainedConfig) else whole
    kind = _class_of(folder, config)
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
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # each configuration checks itself in its own way
        raise CheckpointError(
            f"{file}: describes no {model_type!r} model: {said(error)}; fetch the file again"
        ) from error
    return config


def _class_of(folder: Path, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class without a head; towers that AutoModel lacks are named as their config is."""
    # The first has encoders alone where the second has them with a decoder, as of T5.
    kind = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)  # type: ignore[no-untyped-call]
    kind = kind or MODEL_MAPPING.get(type(config), None)  # type: ignore[no-untyped-call]
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
    return kind  # type: ignore[no-any-return]


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


def loaded(source: Pretrained, device: str, dtype: str, *, pooler: bool = False) -> Any:
    """Return the encoder with its weights on `device` as `dtype`, ready to run.

    Of a network with a decoder it is the encoder alone. With `pooler` false a pooler that can be
    left out is. Raises CheckpointError for weights that are missing, unreadable, of another shape,
    or of no use to the network though they are named as its own.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise RunError(f"device {device!r}: torch finds no CUDA device; use cpu")
    names = list(Checkpoint(source.folder))  # says what is wrong with a file that cannot be read
    options: dict[str, Any] = {"dtype": dtype_of(dtype), "device_map": device}
    # A tower is taken out of the whole: by itself the library would not find its weights in all.
    kind = source.kind if source.whole is source.config else _class_of(source.folder, source.whole)
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = pooler
    _without_biases(source.config, names)
    try:
        with quiet():
            model, info = kind.from_pretrained(
                source.folder,
                config=source.whole,
                local_files_only=True,
                output_loading_info=True,
                weights_only=True,
                **options,
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the library, of safetensors, of torch: all mean the same
        raise CheckpointError(
            f"{source.folder}: cannot be loaded as {kind.__name__}: {said(error)}"
        ) from error
    encoder = _encoder_of(model, source)
    _refuse_misfits(source.folder, model, encoder, info)
    return encoder.eval().requires_grad_(False)


def _encoder_of(model: Any, source: Pretrained) -> Any:
    if source.whole is source.config:
        return model.get_encoder() if source.config.is_encoder_decoder else model
    for module in model.modules():
        if type(module) is source.kind:
            return module
    raise CheckpointError(
        f"{source.folder / CONFIG}: transformers has no {source.kind.__name__} in its "
        f"{type(model).__name__}; it needs a plugin of its own"
    )


def _without_biases(config: Any, names: Sequence[str]) -> None:
    """Leave out biases of convolutions that a config announces and the weights have none of.

    Published large HuBERTs of fairseq are so, and zeros are what they were trained with.
    """
    if getattr(config, "conv_bias", False) and not any(
        re.search(r"conv_layers\.\d+\.conv\.bias$", name) for name in names
    ):
        config.conv_bias = False


def _refuse_misfits(folder: Path, model: Any, encoder: nn.Module, info: Any) -> None:
    inside = next(name for name, module in model.named_modules() if module is encoder)
    missing = [name for name in info["missing_keys"] if name.startswith(inside)]
    strange = [name for name in info["unexpected_keys"] if _is_own(name, model)]
    wrong = [
        f"{kind}: {few(sorted(map(str, names)))}"
        for kind, names in (("missing", missing), ("not expected", strange))
        if names
    ]
    if wrong:
        raise CheckpointError(
            f"{folder}: the weights do not fit {type(model).__name__}; is this another checkpoint, "
            f"or was it cut?{listed(wrong)}"
        )


def _is_own(name: str, model: Any) -> bool:
    """Return whether a weight without use stands in one of the network's own parts.

    Heads, other towers and poolers that were left out stand beside those, and are not needed.
    """
    first = name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0]
    return first in dict(model.named_children())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing reports of its own: mistakes become errors here."""
    level, bar = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.ERROR)
    reports.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bar:
            reports.enable_progress_bar()  # type: ignore[no-untyped-call]


def said(error: Exception) -> str:
    """Return the first lines of an error of the library in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
