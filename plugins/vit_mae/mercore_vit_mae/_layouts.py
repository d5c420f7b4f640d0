"""The layouts that masked autoencoders are published in: their names, and the sizes they imply."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from typing import Final

from mercore.errors import CheckpointError, RegistryError
from mercore.nn import Checkpoint, Rule
from mercore_vit_mae._config import CONFIG, Told

# Heads by width and blocks: no weight tells them. ViT-Tiny, -Small, -Base, -Large, -Huge.
HEADS: Final = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16}


@dataclass(frozen=True)
class Layout:
    """How one library names the weights."""

    prefix: str
    """What the names of the encoder may begin with; the names below are without it."""
    cls_token: str
    pos_embed: str
    patches: str
    """The weight of the convolution that embeds the patches."""
    hidden: str
    """The weight of the first block's wider linear layer."""
    mean_norm: str
    """The weight of the norm behind the mean of the patches, in fine-tuned checkpoints."""
    block: str
    """A regular expression for what the names of a block begin with; group 1 is its number."""
    norm: str
    """The same for the final norm, fine-tuned or not."""
    rules: tuple[Rule, ...]
    """To the names of timm's VisionTransformer; the rest keeps its name."""
    decoder: tuple[Rule, ...] = ()
    """To the names of the original's decoder; empty where it is not read."""


TIMM: Final = Layout(
    prefix="",
    cls_token="cls_token",
    pos_embed="pos_embed",
    patches="patch_embed.proj.weight",
    hidden="blocks.0.mlp.fc1.weight",
    mean_norm="fc_norm.weight",
    block=r"blocks\.(\d+)\.",
    norm=r"(?:fc_)?norm\.",
    rules=(
        Rule(r"mask_token|decoder_.+|head\..+", None),
        Rule(r"fc_norm\.(.+)", r"norm.\1"),
    ),
    decoder=(Rule(r"(mask_token|decoder_.+)", r"\1"),),
)


def _layers(layer: str, blocks: str) -> tuple[Rule, ...]:
    """Return where the weights of transformers' layers go in timm's blocks."""
    return (
        Rule(layer + r"layernorm_before\.(.+)", rf"{blocks}.\1.norm1.\2"),
        Rule(layer + r"layernorm_after\.(.+)", rf"{blocks}.\1.norm2.\2"),
        *(
            Rule(layer + rf"attention\.attention\.{name}\.(.+)", rf"{blocks}.\1.attn.qkv.\2", part)
            for name, part in (("query", (0, 3)), ("key", (1, 3)), ("value", (2, 3)))
        ),
        Rule(layer + r"attention\.output\.dense\.(.+)", rf"{blocks}.\1.attn.proj.\2"),
        Rule(layer + r"intermediate\.dense\.(.+)", rf"{blocks}.\1.mlp.fc1.\2"),
        Rule(layer + r"output\.dense\.(.+)", rf"{blocks}.\1.mlp.fc2.\2"),
    )


_VIT = r"(?:vit\.)?"
_LAYER = _VIT + r"encoder\.layer\.(\d+)\."
TRANSFORMERS: Final = Layout(
    prefix="vit.",
    cls_token="embeddings.cls_token",
    pos_embed="embeddings.position_embeddings",
    patches="embeddings.patch_embeddings.projection.weight",
    hidden="encoder.layer.0.intermediate.dense.weight",
    mean_norm="",  # no such checkpoint is published
    block=_LAYER,
    norm=_VIT + r"layernorm\.",
    rules=(
        Rule(r"decoder\..+", None),
        Rule(_VIT + r"embeddings\.cls_token", "cls_token"),
        Rule(_VIT + r"embeddings\.position_embeddings", "pos_embed"),
        Rule(_VIT + r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
        *_layers(_LAYER, "blocks"),
        Rule(_VIT + r"layernorm\.(.+)", r"norm.\1"),
    ),
    decoder=(
        *_layers(r"decoder\.decoder_layers\.(\d+)\.", "decoder_blocks"),
        Rule(r"decoder\.(.+)", r"\1"),
    ),
)

_BACKBONE = r"(?:backbone\.)?"
_OWN = _BACKBONE + r"layers\.(\d+)\."
MMPRETRAIN: Final = Layout(
    prefix="backbone.",
    cls_token="cls_token",
    pos_embed="pos_embed",
    patches="patch_embed.projection.weight",
    hidden="layers.0.ffn.layers.0.0.weight",
    mean_norm="ln2.weight",
    block=_OWN,
    norm=_BACKBONE + r"ln[12]\.",
    rules=(
        Rule(r"(?:neck|head)\..+", None),
        Rule(_BACKBONE + "(cls_token|pos_embed)", r"\1"),
        Rule(_BACKBONE + r"patch_embed\.projection\.(.+)", r"patch_embed.proj.\1"),
        Rule(_OWN + r"ln([12])\.(.+)", r"blocks.\1.norm\2.\3"),
        Rule(_OWN + r"attn\.(.+)", r"blocks.\1.attn.\2"),
        Rule(_OWN + r"ffn\.layers\.0\.0\.(.+)", r"blocks.\1.mlp.fc1.\2"),
        Rule(_OWN + r"ffn\.layers\.1\.(.+)", r"blocks.\1.mlp.fc2.\2"),
        Rule(_BACKBONE + r"ln[12]\.(.+)", r"norm.\1"),
    ),
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network."""

    dim: int
    depth: int
    heads: int
    hidden: int
    """The width inside a block."""
    patch: int
    """The side of a patch, in pixels."""
    side: int
    """The side of a picture, in pixels."""
    mean_norm: bool
    """It was fine-tuned on the mean of its patches, which alone is normed."""

    @property
    def tokens(self) -> int:
        """The tokens of a picture, with the class token."""
        return (self.side // self.patch) ** 2 + 1


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Return the layout of the checkpoint; raises CheckpointError where it is none of the three."""
    for layout in (TIMM, TRANSFORMERS, MMPRETRAIN):
        if any(re.match(layout.block, name) for name in checkpoint):
            return layout
    raise CheckpointError(
        f"{checkpoint.path}: not the weights of a masked autoencoder's ViT: no blocks named as by "
        "timm ('blocks.0.'), transformers ('vit.encoder.layer.0.') or mmpretrain "
        f"('backbone.layers.0.'); found {', '.join(list(checkpoint)[:5])}"
    )


def sizes_of(checkpoint: Checkpoint, layout: Layout, told: Told, heads: int | None) -> Sizes:
    """Return the sizes of the network; raises CheckpointError for weights that imply none."""
    _, _, dim = _shape(checkpoint, layout, layout.cls_token, 3)
    _, tokens, _ = _shape(checkpoint, layout, layout.pos_embed, 3)
    _, _, patch, _ = _shape(checkpoint, layout, layout.patches, 4)
    hidden, _ = _shape(checkpoint, layout, layout.hidden, 2)
    across = isqrt(tokens - 1)
    if across**2 + 1 != tokens:
        raise CheckpointError(
            f"{checkpoint.path}: has positions for {tokens} tokens, expected a class token and a "
            "square of patches; this is another network"
        )
    depth = _depth(checkpoint, layout)
    _agree(checkpoint, told, dim, depth)
    return Sizes(
        dim=dim,
        depth=depth,
        heads=_heads(checkpoint, told.heads, heads, dim, depth),
        hidden=hidden,
        patch=patch,
        side=across * patch,
        mean_norm=_full(checkpoint, layout, layout.mean_norm) is not None,
    )


def rules_of(layout: Layout, sizes: Sizes, built: int) -> tuple[Rule, ...]:
    """Return where the weights go in a network of the first `built` blocks."""
    if built == sizes.depth:
        return layout.rules
    number = "|".join(map(str, range(built, sizes.depth)))
    later = layout.block.replace(r"(\d+)", rf"(?:{number})")
    return (Rule(later + ".+", None), Rule(layout.norm + ".+", None), *layout.rules)


def _full(checkpoint: Checkpoint, layout: Layout, name: str) -> str | None:
    """Return the name as the checkpoint has it, with or without the prefix."""
    return next((full for full in (layout.prefix + name, name) if full in checkpoint), None)


def _shape(checkpoint: Checkpoint, layout: Layout, name: str, length: int) -> tuple[int, ...]:
    full = _full(checkpoint, layout, name)
    if full is None:
        raise CheckpointError(
            f"{checkpoint.path}: lacks {layout.prefix}{name}; is this another network, or was the "
            "checkpoint cut?"
        )
    shape = tuple(checkpoint[full].shape)
    if len(shape) != length:
        raise CheckpointError(
            f"{checkpoint.path}: {full} has the shape {shape}, expected {length} dimensions; "
            "this is another network"
        )
    return shape


def _depth(checkpoint: Checkpoint, layout: Layout) -> int:
    found = [re.match(layout.block, name) for name in checkpoint]
    numbers = {int(match[1]) for match in found if match}
    absent = sorted(set(range(max(numbers))) - numbers)
    if absent:
        raise CheckpointError(
            f"{checkpoint.path}: has blocks up to number {max(numbers)}, but not "
            f"{', '.join(map(str, absent[:5]))}; was the checkpoint cut?"
        )
    return len(numbers)


def _agree(checkpoint: Checkpoint, told: Told, dim: int, depth: int) -> None:
    found, expected = (dim, depth), (told.dim or dim, told.depth or depth)
    if found != expected:
        raise CheckpointError(
            f"{checkpoint.path}: the weights are {dim} wide and have {depth} blocks, but "
            f"{CONFIG} says {expected[0]} and {expected[1]}; is a file of another checkpoint, or "
            "was one cut?"
        )


def _heads(
    checkpoint: Checkpoint, told: int | None, given: int | None, dim: int, depth: int
) -> int:
    """Return how many heads the network has, as it says itself, or as usual for its size."""
    heads = told or given or HEADS.get((dim, depth))
    if heads is None:
        usual = ", ".join(f"{depth} of {dim}" for dim, depth in HEADS)
        raise CheckpointError(
            f"{checkpoint.path}: {depth} blocks of width {dim} are no usual ViT (blocks of width: "
            f"{usual}), and no {CONFIG} says how many attention heads it has; was the checkpoint "
            "cut? If it is whole, give option 'heads'"
        )
    if given not in (None, heads):
        raise RegistryError(
            f"vit_mae: option 'heads' is {given}, but {checkpoint.path} says it has {heads}; leave "
            "the option out"
        )
    if dim % heads:
        raise RegistryError(
            f"vit_mae: {checkpoint.path} is {dim} wide, which {heads} heads do not divide; give "
            "the 'heads' it was trained with"
        )
    return heads
