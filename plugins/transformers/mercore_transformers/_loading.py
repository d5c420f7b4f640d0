"""A network of transformers with its weights, each of them accounted for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mercore.errors import CheckpointError, few, listed
from mercore.nn import Checkpoint, device_of, dtype_of, quiet_transformers
from mercore_transformers._sources import CONFIG, Pretrained, class_of, said


def loaded(source: Pretrained, device: str, dtype: str, *, pooler: bool = False) -> Any:
    """Return the encoder with its weights on `device` as `dtype`, ready to run.

    Of a network with a decoder it is the encoder alone. With `pooler` false a pooler that can be
    left out is. Raises CheckpointError for weights that are missing, unreadable, of another shape,
    or of no use to the network though they are named as its own.
    """
    device_of(device)  # is there
    names = list(Checkpoint(source.folder))  # says what is wrong with a file that cannot be read
    options: dict[str, Any] = {"dtype": dtype_of(dtype), "device_map": device}
    # A tower is taken out of the whole: by itself the library would not find its weights in all.
    kind = source.kind if source.whole is source.config else class_of(source.folder, source.whole)
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = pooler
    _without_biases(source.config, names)
    make: Any = kind
    try:
        with quiet_transformers():
            model, info = make.from_pretrained(
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
