"""A model of timm with weights from a checkpoint, each of them accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import timm
import torch

from mercore.checkpoints import locate
from mercore.errors import CheckpointError, RegistryError, did_you_mean
from mercore.nn import Checkpoint, read_json
from mercore_timm import CONFIG, TimmImage

WEIGHTS: Final = ("*.safetensors", "*.bin", "*.pth", "*.pt")


def published(options: TimmImage) -> Any:
    """Return the model on the CPU, in float32, without a classifier, with all its weights.

    Raises CheckpointError where they do not fit, RegistryError for a model that timm lacks.
    """
    told = (CONFIG,) if options.model is None else ()
    path = locate(options.weights, wanted=[WEIGHTS, *told], useful=[CONFIG, "*.index.json"])
    name, config = _source(options, path)
    tensors = _without_head(Checkpoint(path), config)
    fixed = config.get("fixed_input_size", False)
    given: dict[str, Any] = {"img_size": options.size} if options.size and fixed else {}
    try:
        model: Any = timm.create_model(
            name,
            pretrained=True,
            num_classes=0,
            # With a number of classes that differs timm would not mind missing weights.
            pretrained_cfg_overlay={
                "state_dict": tensors,
                "source": "",
                "num_classes": 0,
                "classifier": None,
            },
            **given,
        )
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _misfit(path, name, error) from error
    model.pretrained_cfg.pop("state_dict")  # a copy of all weights
    return model


def _source(options: TimmImage, path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the name to build by and what is published of it: timm's own, or of a config.json."""
    folder = path if path.is_dir() else path.parent
    file = folder / CONFIG
    # What lies beside a file may be of another one.
    found = (path.is_dir() or options.model is None) and file.is_file()
    told = read_json(file) if found else {}
    architecture = told.get("architecture")
    if architecture is None:
        if options.model is None:
            raise CheckpointError(_untold(file, path, found))
        return options.model, _known(options.model, "timm_image: option 'model'")
    _known(str(architecture), f"{file}: architecture")
    if options.model is not None and options.model.partition(".")[0] != architecture:
        raise CheckpointError(
            f"{file}: is of {architecture!r}, but option 'model' is {options.model!r}; leave the "
            "option out, or give another checkpoint"
        )
    return f"local-dir:{folder}", told.get("pretrained_cfg", told)


def _untold(file: Path, path: Path, found: bool) -> str:
    if found:
        return (
            f"{file}: names no architecture of timm; give option 'model', or, for a checkpoint in "
            "the layout of transformers, use its own encoder"
        )
    return f"{path}: has no {CONFIG} beside it, which says what it is of; give option 'model'"


def _known(name: str, where: str) -> Mapping[str, Any]:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise RegistryError(f"{where} {name!r} is no model of timm {timm.__version__}{hint}")
    try:
        config: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        own = sorted(timm.models.get_arch_pretrained_cfgs(architecture))
        raise RegistryError(
            f"{where} {name!r}: timm knows no such training of {architecture}; expected one of "
            f"{', '.join(own)}"
        ) from error
    told: Mapping[str, Any] = config.to_dict() if config else {}
    return told


def _without_head(weights: Checkpoint, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    given = config.get("classifier") or ()
    heads = (given,) if isinstance(given, str) else tuple(given)
    unused = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    return {name: weights[name] for name in weights if name not in unused}


def _misfit(path: Path, name: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())
    shown = reason if len(reason) < 600 else f"{reason[:600]} ..."
    return CheckpointError(
        f"{path}: the weights do not fit {name.removeprefix('local-dir:')}; is this another "
        f"checkpoint, or was it cut? timm says: {shown}"
    )
