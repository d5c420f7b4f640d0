"""The published folders: their files, their config.json, the names of their weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from mercore import checkpoints
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule, parsed, read_json

_WANTED: Final = ("config.json", "tokenizer.model", ("*.safetensors", "pytorch_model*.bin"))
_USEFUL: Final = ("*.index.json", "generation_config.json")
# The published widths; a config.json that tells another size by its keys is mixed up.
_PUBLISHED: Final = {4096: "7B", 5120: "13B"}
_BLOCK: Final = (
    "self_attn.W_pack.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
)
_INV_FREQ: Final = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
_QKV: Final = tuple(rf"layers.\1.self_attn.{part}_proj.weight" for part in "qkv")


class Sizes(BaseModel):
    """What config.json says of the network."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    hidden_act: Literal["silu"] = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: PositiveInt | None = None
    model_max_length: PositiveInt | None = None

    @property
    def rotary(self) -> bool:
        """Whether positions are rotary (7B); else they are ALiBi's (13B).

        `max_position_embeddings` is a key of the 7B models alone; 13B has `model_max_length`, and
        Baichuan2-7B has both.
        """
        return self.max_position_embeddings is not None

    @property
    def context(self) -> int:
        """How many tokens the model reads."""
        return self.max_position_embeddings or self.model_max_length or 0


def located(checkpoint: str) -> Path:
    """Return the folder or file of the weights; the other files lie beside a file."""
    path = checkpoints.locate(checkpoint, wanted=_WANTED, useful=_USEFUL)
    if path.is_file():
        missing = [name for name in _WANTED[:2] if not (path.parent / str(name)).is_file()]
        if missing:
            raise CheckpointError(
                f"{str(path)!r} has no {' and no '.join(map(str, missing))} beside it; copy the "
                "files of its folder there"
            )
    return path


def sizes_of(folder: Path) -> Sizes:
    """Return what config.json in the folder says; CheckpointError where it is another model's."""
    file = folder / "config.json"
    content = read_json(file)
    if content.get("model_type") != "baichuan":
        raise CheckpointError(
            f"{file}: the model is {content.get('model_type')!r}, expected 'baichuan'; give a "
            "folder or hub id of Baichuan or Baichuan2"
        )
    if content.get("quantization_config"):
        raise CheckpointError(
            f"{file}: the weights are quantised, which is not read; give the full checkpoint"
        )
    sizes = parsed(Sizes, file, content, "a Baichuan")
    _check(file, sizes)
    return sizes


def _check(file: Path, sizes: Sizes) -> None:
    if not sizes.context:
        raise CheckpointError(
            f"{file}: has neither 'max_position_embeddings' (7B) nor 'model_max_length' (13B), so "
            "its position scheme is unknown; fetch the file again"
        )
    if sizes.hidden_size % (2 * sizes.num_attention_heads):
        raise CheckpointError(
            f"{file}: 'hidden_size' {sizes.hidden_size} does not give each of the "
            f"{sizes.num_attention_heads} heads an even part; fetch the file again"
        )
    told = "7B" if sizes.rotary else "13B"
    published = _PUBLISHED.get(sizes.hidden_size, told)
    if told != published:
        raise CheckpointError(
            f"{file}: 'hidden_size' {sizes.hidden_size} is that of {published}, but "
            f"{'a' if sizes.rotary else 'no'} 'max_position_embeddings' tells {told}; is it the "
            "config.json of another checkpoint? Fetch it again"
        )


def check_names(checkpoint: Checkpoint, sizes: Sizes, blocks: int) -> None:
    """Raise CheckpointError unless the weights have the blocks that config.json says.

    `blocks` of them are read, and looked at when they are; the others must be there too.
    """
    depth = sizes.num_hidden_layers
    numbers = (re.match(r"model\.layers\.(\d+)\.", name) for name in checkpoint)
    found = {int(number[1]) for number in numbers if number}
    if found and found != set(range(depth)):
        raise CheckpointError(
            f"{checkpoint.path}: the weights have {len(found)} blocks, numbered {min(found)} to "
            f"{max(found)}, but config.json says {depth}; is it the config.json of another size?"
        )
    rotary = [name for name in checkpoint if re.fullmatch(_INV_FREQ, name)]
    if rotary and not sizes.rotary:
        raise CheckpointError(
            f"{checkpoint.path}: the weights are of a 7B model with rotary positions "
            f"({rotary[0]}), but config.json is that of a 13B model, with 'model_max_length' "
            "alone; fetch the two from one place"
        )
    unread = (f"model.layers.{block}.{leaf}" for block in range(blocks, depth) for leaf in _BLOCK)
    if missing := [name for name in unread if name not in checkpoint]:
        raise CheckpointError(
            f"{checkpoint.path}: the weights are incomplete: {', '.join(missing[:5])}"
            f"{' ...' if missing[5:] else ''}; fetch them again"
        )


def rules(blocks: int, norm: bool) -> list[Rule]:
    """Return where the weights go in a LlamaModel with `blocks` blocks, and the norm if wanted."""
    leaf = "|".join(re.escape(name) for name in _BLOCK)
    unread = rf"model\.layers\.(?!(?:{'|'.join(map(str, range(blocks)))})\.)\d+\.(?:{leaf})"
    return [
        Rule(_INV_FREQ, None),  # a constant, which the model computes
        Rule(r"lm_head\.weight", None),
        Rule(unread, None),
        Rule(r"model\.layers\.(\d+)\.self_attn\.W_pack\.weight", _QKV),
        Rule(rf"model\.(layers\.\d+\.(?:{leaf}))", r"\1"),
        Rule(r"model\.embed_tokens\.weight", "embed_tokens.weight"),
        Rule(r"model\.norm\.weight", "norm.weight" if norm else None),
    ]
