"""What lies where in the published checkpoints: sizes, names, preparation of pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import IMAGENET_MEAN, IMAGENET_STD, Checkpoint, Rule

MODEL_TYPE: Final = "intern_vit_6b"  # the 300M says so too
TOGETHER: Final = ("internvl", "internvl_chat")
"""Models that hold an InternViT under ``vision_model.``: InternVL-14B and the chat models."""
EXPECTED: Final = (
    "an InternViT, InternVL-14B-224px or an InternVL chat model as OpenGVLab publishes them"
)
_HEAD_DIM: Final = {"rms_norm": 128, "layer_norm": 64}  # of the 6B and the 300M
# What lies beside the tower in InternVL-14B, in the chat models, and in internvl_c_13b_224px.pth.
_OTHERS: Final = (
    r"(qllama|clip_projector2|itm_head)\..*|query_tokens|text_projection|logit_scale",
    r"(language_model|mlp1)\..*",
)
_OTHERS_ORIGINAL: Final = (r"transformer\..*|text_projection|logit_scale",)

Parsed = TypeVar("Parsed", bound=BaseModel)


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


@dataclass(frozen=True)
class Layout:
    """A checkpoint's sizes, and how its names are made."""

    sizes: Sizes
    preparation: Preparation
    prefix: str
    """Before the names of the tower."""
    original: bool
    """Whether the names are those of the authors' own code: ``blocks.0.ls1.gamma``."""

    @property
    def positions(self) -> str:
        """The name of the position embeddings."""
        return "pos_embed" if self.original else f"{self.prefix}embeddings.position_embedding"

    def rules(self, blocks: int, projector: bool) -> list[Rule]:
        """Return where the weights go in a `Tower` of the first `blocks` blocks."""
        depth = self.sizes.num_hidden_layers
        later = "|".join(map(str, range(blocks, depth)))
        unused = [rf"{self._stack}\.({later})\..*"] if later else []
        if not projector and (self.original or self.prefix):
            unused.append(r"clip_projector\..*")
        if self.original:
            unused.extend(_OTHERS_ORIGINAL)
        elif self.prefix:
            unused.extend(_OTHERS)
        return [
            *(Rule(source, None) for source in unused),
            *self._embedding_rules(),
            *self._block_rules(),
            Rule(r"clip_projector\.cross_attn\.([qkv])_bias", r"clip_projector.\1.bias"),
            Rule(r"clip_projector\.cross_attn\.([qkv]\.weight|proj\..*)", r"clip_projector.\1"),
            Rule(r"clip_projector\.norm1_([qkv]\..*)", r"clip_projector.norm_\1"),
        ]

    @property
    def _stack(self) -> str:
        return "blocks" if self.original else rf"{re.escape(self.prefix)}encoder\.layers"

    def _embedding_rules(self) -> list[Rule]:
        own = re.escape(self.prefix) + r"embeddings\."
        names = (f"{own}class_embedding", f"{own}position_embedding", f"{own}patch_embedding")
        if self.original:
            names = ("cls_token", "pos_embed", r"patch_embed\.proj")
        to = "vision.embeddings."
        return [
            Rule(names[0], f"{to}cls_token"),
            Rule(names[1], f"{to}position_embeddings"),
            Rule(rf"{names[2]}\.(.*)", rf"{to}patch_embeddings.projection.\1"),
        ]

    def _block_rules(self) -> list[Rule]:
        block, to = rf"{self._stack}\.(\d+)\.", r"vision.encoder.layer.\1."
        parts = tuple(rf"{to}attention.{part}_proj.\2" for part in "qkv")
        gamma = r"\.gamma" if self.original else ""
        return [
            Rule(rf"{block}attn\.qkv\.(.*)", parts),
            Rule(rf"{block}attn\.([qk]_norm\..*)", rf"{to}attention.\2"),
            Rule(rf"{block}attn\.proj\.(.*)", rf"{to}attention.projection_layer.\2"),
            Rule(rf"{block}norm1\.(.*)", rf"{to}layernorm_before.\2"),
            Rule(rf"{block}norm2\.(.*)", rf"{to}layernorm_after.\2"),
            Rule(rf"{block}ls([12]){gamma}", rf"{to}lambda_\2"),
            Rule(rf"{block}(mlp\..*)", rf"{to}\2"),
        ]


def located(checkpoint: str) -> Path:
    """Return the file or folder of the weights, fetched if it has to be."""
    path = Path(checkpoint).expanduser()
    if path.is_dir() and any(path.glob("*.pth")):  # the original files come without a config
        return path
    return locate(
        checkpoint,
        wanted=["config.json", ("*.safetensors", "pytorch_model*.bin")],
        useful=["preprocessor_config.json", "*.index.json"],
    )


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Return the layout of the checkpoint; raises CheckpointError for another model."""
    path = checkpoint.path
    folder = path if path.is_dir() else path.parent
    if "patch_embed.proj.weight" in checkpoint and "pos_embed" in checkpoint:
        layout = Layout(_inferred(checkpoint), Preparation(), "", True)
    else:
        sizes, prefix = _configured(folder / "config.json")
        prepared = folder / "preprocessor_config.json"
        preparation = _parsed(Preparation, prepared, _json(prepared) if prepared.exists() else {})
        layout = Layout(sizes, preparation, prefix, False)
    _check(layout, checkpoint)
    return layout


def _configured(file: Path) -> tuple[Sizes, str]:
    """Return the sizes, and the prefix of the names, that config.json tells."""
    if not file.exists():
        raise CheckpointError(
            f"{file}: does not exist; expected the file published with {EXPECTED}"
        )
    config = _json(file)
    kind = config.get("model_type")
    if kind == MODEL_TYPE:
        return _parsed(Sizes, file, config), ""
    if kind not in TOGETHER:
        raise CheckpointError(f"{file}: is of a {kind!r} model; expected {EXPECTED}")
    own = config.get("vision_config")
    inner = own.get("model_type", MODEL_TYPE) if isinstance(own, dict) else None
    if inner != MODEL_TYPE:
        raise CheckpointError(
            f"{file}: its vision_config is of a {inner!r} model, expected {MODEL_TYPE!r}; give "
            f"{EXPECTED}, not converted for transformers (names that end in -hf)"
        )
    return _parsed(Sizes, file, own), "vision_model."


def _inferred(checkpoint: Checkpoint) -> Sizes:
    """Return the sizes of weights in the original layout, which come without a config."""
    _, tokens, hidden = checkpoint["pos_embed"].shape
    patch = checkpoint["patch_embed.proj.weight"].shape[-1]
    blocks = _numbers(checkpoint, "blocks")
    first = "blocks.0.mlp.fc1.weight"
    if first not in checkpoint:
        raise CheckpointError(f"{checkpoint.path}: holds no {first!r}; expected {EXPECTED}")
    norm: Literal["rms_norm", "layer_norm"] = (
        "layer_norm" if "blocks.0.norm1.bias" in checkpoint else "rms_norm"
    )
    return Sizes(
        hidden_size=hidden,
        num_hidden_layers=max(blocks) + 1,
        num_attention_heads=max(1, hidden // _HEAD_DIM[norm]),
        intermediate_size=checkpoint[first].shape[0],
        patch_size=patch,
        image_size=round((tokens - 1) ** 0.5) * patch,
        qkv_bias="blocks.0.attn.qkv.bias" in checkpoint,
        qk_normalization="blocks.0.attn.q_norm.weight" in checkpoint,
        norm_type=norm,
    )


def _numbers(names: Iterable[str], stack: str) -> set[int]:
    """Return the numbers of the blocks that have weights."""
    block = re.compile(rf"{stack}\.(\d+)\..*")
    return {int(found[1]) for name in names if (found := block.fullmatch(name))}


def _check(layout: Layout, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless the blocks and heads are as they should be."""
    sizes, found = layout.sizes, _numbers(checkpoint, layout._stack)
    if found != set(range(sizes.num_hidden_layers)):
        which = f"the blocks {min(found)} to {max(found)}" if found else "no blocks"
        raise CheckpointError(
            f"{checkpoint.path}: holds weights of {len(found)} blocks ({which}), expected "
            f"{sizes.num_hidden_layers}, 0 to {sizes.num_hidden_layers - 1}; is config.json that "
            "of another checkpoint, or was a file cut?"
        )
    if sizes.hidden_size % sizes.num_attention_heads:
        raise CheckpointError(
            f"{checkpoint.path}: is {sizes.hidden_size} wide, which {sizes.num_attention_heads} "
            f"heads cannot share; expected {EXPECTED}"
        )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: is no JSON: {error}; fetch the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds {type(content).__name__}, expected an object")
    return content


def _parsed(kind: type[Parsed], file: Path, content: object) -> Parsed:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, mistake['loc']))} is {mistake['input']!r}: {mistake['msg']}"
            for mistake in error.errors()
        )
        raise CheckpointError(f"{file}: cannot be used: {wrong}; expected {EXPECTED}") from error
