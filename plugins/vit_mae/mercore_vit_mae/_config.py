"""What the json files beside the weights say: sizes of the network, mean and deviation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mercore.errors import CheckpointError
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD, parsed, read_json

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"

Colour = tuple[float, float, float]


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class _Kind(_File):
    model_type: str | None = None
    architecture: str | None = None


class _Transformers(_File):
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "gelu"


class _Colours(_File):
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD


class _Arguments(_File):
    depth: int | None = None
    num_heads: int | None = None


class _Timm(_File):
    architecture: str
    num_features: int | None = None
    model_args: _Arguments = _Arguments()
    pretrained_cfg: _Colours = _Colours()


class _Preprocessor(_File):
    image_mean: Colour = IMAGENET_MEAN
    image_std: Colour = IMAGENET_STD


@dataclass(frozen=True)
class Told:
    """What the files beside the weights say; None where they do not."""

    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD


def told(path: Path) -> Told:
    """Return what the checkpoint says of itself; a file of weights alone says nothing.

    Raises CheckpointError for files that cannot be read and for those of another network.
    """
    config = path / CONFIG
    found = _of_config(config) if config.is_file() else Told()
    if not (path / PREPROCESSOR).is_file():
        return found
    prepared = parsed(_Preprocessor, path / PREPROCESSOR, read_json(path / PREPROCESSOR))
    return Told(found.dim, found.depth, found.heads, prepared.image_mean, prepared.image_std)


def _of_config(file: Path) -> Told:
    content = read_json(file)
    kind = parsed(_Kind, file, content)
    if kind.model_type == "vit_mae":
        return _of_transformers(file, content)
    if kind.model_type is None and (kind.architecture or "").startswith("vit_"):
        timm = parsed(_Timm, file, content)
        sizes, colours = timm.model_args, timm.pretrained_cfg
        return Told(timm.num_features, sizes.depth, sizes.num_heads, colours.mean, colours.std)
    raise CheckpointError(
        f"{file}: model_type {kind.model_type!r} and architecture {kind.architecture!r}: not a "
        "masked autoencoder; expected model_type 'vit_mae' (transformers) or an architecture "
        "'vit_...' (timm)"
    )


def _of_transformers(file: Path, content: object) -> Told:
    config = parsed(_Transformers, file, content)
    if config.hidden_act != "gelu":
        raise CheckpointError(f"{file}: hidden_act {config.hidden_act!r}, expected 'gelu'")
    return Told(config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
