"""The published layouts of HuBERT: which names their weights have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule

_CONV: Final = "encoder.pos_conv_embed.conv."
_SIZE, _DIRECTION = (f"{_CONV}parametrizations.weight.original{part}" for part in (0, 1))


@dataclass(frozen=True)
class Layout:
    """How the names of a published layout become those of ``HubertModel``."""

    name: str
    prefix: str
    """What may stand before each name, as a regular expression."""
    conv: str
    """The positional convolution, as a regular expression."""
    mask: str
    """What stands for a frame that is masked in training, as a whole regular expression."""
    unused: tuple[str, ...]
    """Other weights of pre-training and of heads, as whole regular expressions."""
    renamed: tuple[tuple[str, str], ...] = ()
    """What stands behind the prefix, and the name in the module."""

    def rules(self, needed: int, depth: int) -> list[Rule]:
        """Return the rules that fill a network of the first `needed` of `depth` blocks."""
        later = "|".join(map(str, range(needed, depth))) or "(?!)"
        return [
            *(Rule(source, None) for source in (self.mask, *self.unused)),
            Rule(rf"{self.prefix}encoder\.layers\.(?:{later})\..*", None),
            Rule(rf"{self.prefix}{self._norm(0)}", _SIZE),
            Rule(rf"{self.prefix}{self._norm(1)}", _DIRECTION),
            *(Rule(self.prefix + source, target) for source, target in self.renamed),
            Rule(rf"{self.prefix}(.*)", r"\1"),
        ]

    def norm(self, names: Iterable[str]) -> list[str]:
        """Return which of `names` are the size and the direction of the weight norm."""
        every = list(names)
        patterns = [re.compile(self.prefix + self._norm(part)) for part in (0, 1)]
        return [name for pattern in patterns for name in every if pattern.fullmatch(name)]

    def _norm(self, part: int) -> str:
        return rf"{self.conv}(?:weight_{'gv'[part]}|parametrizations\.weight\.original{part})"


TRANSFORMERS: Final = Layout(
    "transformers",
    prefix=r"(?:hubert\.)?",
    conv=r"encoder\.pos_conv_embed\.conv\.",
    mask=r"(?:hubert\.)?masked_spec_embed",
    unused=(r"(?:lm_head|projector|classifier)\..*|layer_weights",),
)
FAIRSEQ: Final = Layout(
    "fairseq",
    prefix=r"(?:w2v_encoder\.w2v_model\.)?",
    conv=r"encoder\.pos_conv\.0\.",
    mask=r"(?:w2v_encoder\.w2v_model\.)?mask_emb",
    unused=(
        r"(?:w2v_encoder\.w2v_model\.)?(?:label_embs_concat|final_proj\..*)",
        r"w2v_encoder\.proj\..*",
    ),
    renamed=(
        (r"(feature_extractor\.conv_layers\.\d+)\.0\.(.*)", r"\1.conv.\2"),
        (r"(feature_extractor\.conv_layers\.\d+)\.2(?:\.1)?\.(weight|bias)", r"\1.layer_norm.\2"),
        (r"layer_norm\.(.*)", r"feature_projection.layer_norm.\1"),
        (r"post_extract_proj\.(.*)", r"feature_projection.projection.\1"),
        (r"encoder\.pos_conv\.0\.bias", rf"{_CONV}bias"),
        (r"(encoder\.layers\.\d+)\.self_attn\.(.*)", r"\1.attention.\2"),
        (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.(.*)", r"\1.layer_norm.\2"),
        (r"(encoder\.layers\.\d+)\.fc1\.(.*)", r"\1.feed_forward.intermediate_dense.\2"),
        (r"(encoder\.layers\.\d+)\.fc2\.(.*)", r"\1.feed_forward.output_dense.\2"),
    ),
)


def published_name(name: str) -> str:
    """Return what transformers' files call a weight of ``HubertModel``."""
    return {_SIZE: f"{_CONV}weight_g", _DIRECTION: f"{_CONV}weight_v"}.get(name, name)


def layout_of(weights: Checkpoint) -> Layout:
    """Return the layout of the weights; raises CheckpointError where it is none of these."""
    for layout in (TRANSFORMERS, FAIRSEQ):
        if any(re.match(layout.prefix + layout.conv, name) for name in weights):
            return layout
    raise CheckpointError(
        f"{weights.path}: holds no positional convolution of a HuBERT, as transformers "
        "('encoder.pos_conv_embed.conv') or fairseq ('encoder.pos_conv.0') name it; found "
        f"{', '.join(sorted(weights)[:5])} ...; give a checkpoint of HuBERT"
    )


def blocks(weights: Checkpoint, layout: Layout) -> list[int]:
    """Return the numbers of the blocks that have weights."""
    pattern = re.compile(rf"{layout.prefix}encoder\.layers\.(\d+)\.")
    return sorted({int(found[1]) for name in weights if (found := pattern.match(name))})
