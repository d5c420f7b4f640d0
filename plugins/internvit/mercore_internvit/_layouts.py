"""The published layouts: which weights go where, and whether they are all there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule
from mercore_internvit._configs import EXPECTED, Preparation, Sizes, preparation_in, sizes_in

_HEAD_DIM: Final = {"rms_norm": 128, "layer_norm": 64}  # of the 6B and the 300M
# What lies beside the tower in InternVL-14B, in the chat models, and in internvl_c_13b_224px.pth.
_OTHERS: Final = (
    r"(qllama|clip_projector2|itm_head)\..*|query_tokens|text_projection|logit_scale",
    r"(language_model|mlp1)\..*",
)
_OTHERS_ORIGINAL: Final = (r"transformer\..*|text_projection|logit_scale",)


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

    def rules(self, blocks: int, projector: bool, first: int = 0) -> list[Rule]:
        """Return where the weights go in a `Tower` of the first `blocks` blocks.

        What is in front of the hidden state `first` is not used.
        """
        depth = self.sizes.num_hidden_layers
        others = "|".join(map(str, [*range(first), *range(blocks, depth)]))
        unused = [rf"{self._stack}\.({others})\..*"] if others else []
        if first:
            unused.extend(rule.source for rule in self._embedding_rules())
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
        sizes, prefix = sizes_in(folder / "config.json")
        preparation = preparation_in(folder / "preprocessor_config.json")
        layout = Layout(sizes, preparation, prefix, False)
    _check(layout, checkpoint)
    return layout


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
