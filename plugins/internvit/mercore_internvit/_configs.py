"""What config.json and preprocessor_config.json say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from mercore.errors import CheckpointError
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD, parsed, read_json

MODEL_TYPE: Final = "intern_vit_6b"  # the 300M says so too
TOGETHER: Final = ("internvl", "internvl_chat")
"""Models that hold an InternViT under ``vision_model.``: InternVL-14B and the chat models."""
EXPECTED: Final = (
    "an InternViT, InternVL-14B-224px or an InternVL chat model as OpenGVLab publishes them"
)


class Sizes(BaseModel):
    """The sizes of a tower by their published names; those that are absent are the 6B's."""

    model_config = ConfigDict(frozen=True)

    hidden_size: int = 3200
    num_hidden_layers: int = 48
    num_attention_heads: int = 25
    intermediate_size: int = 12800
    patch_size: int = 14
    image_size: int = 224
    qkv_bias: bool = False
    qk_normalization: bool = True
    norm_type: Literal["rms_norm", "layer_norm"] = "rms_norm"
    layer_norm_eps: float = 1e-6
    hidden_act: Literal["gelu"] = "gelu"


def _edge(size: object) -> object:
    """Return the pixels of a size that may be written ``{"shortest_edge": 224}``."""
    return next(iter(size.values()), None) if isinstance(size, dict) else size


class Preparation(BaseModel):
    """How pictures become input, by the names of preprocessor_config.json."""

    model_config = ConfigDict(frozen=True)

    size: Annotated[int | None, BeforeValidator(_edge)] = None
    crop_size: Annotated[int | None, BeforeValidator(_edge)] = None
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    resample: Literal[3] = 3  # bicubic


def sizes_in(file: Path) -> tuple[Sizes, str]:
    """Return the sizes, and the prefix of the names, that config.json tells."""
    if not file.exists():
        raise CheckpointError(
            f"{file}: does not exist; expected the file published with {EXPECTED}"
        )
    config = read_json(file)
    kind = config.get("model_type")
    if kind == MODEL_TYPE:
        return parsed(Sizes, file, config, EXPECTED), ""
    if kind not in TOGETHER:
        raise CheckpointError(f"{file}: is of a {kind!r} model; expected {EXPECTED}")
    own = config.get("vision_config")
    inner = own.get("model_type", MODEL_TYPE) if isinstance(own, dict) else None
    if inner != MODEL_TYPE:
        raise CheckpointError(
            f"{file}: its vision_config is of a {inner!r} model, expected {MODEL_TYPE!r}; give "
            f"{EXPECTED}, not converted for transformers (names that end in -hf)"
        )
    return parsed(Sizes, file, own, EXPECTED), "vision_model."


def preparation_in(file: Path) -> Preparation:
    """Return what preprocessor_config.json tells; the usual where there is none."""
    return parsed(Preparation, file, read_json(file) if file.exists() else {}, EXPECTED)
