"""The modules that a folder of sentence-transformers lists; each kind is done here, none is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule, built, fill, parsed, read_json

MODULES: Final = "modules.json"
OWN: Final = "sentence_transformers."
"""What the type of each module begins with; another is code of somebody else."""
ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    f"torch.nn.modules.{place}": kind
    for place, kind in {
        "linear.Identity": nn.Identity,
        "activation.Tanh": nn.Tanh,
        "activation.ReLU": nn.ReLU,
        "activation.GELU": nn.GELU,
        "activation.SiLU": nn.SiLU,
        "activation.Sigmoid": nn.Sigmoid,
    }.items()
}
Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
# What older versions wrote, in the order in which they put several side by side.
_OLDER: Final[Mapping[str, Mode]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

Stage = Callable[[Tensor], Tensor]
"""From ``(rows, dim)`` to ``(rows, dim)``; pooling makes one row of all."""


Told = TypeVar("Told", bound=BaseModel)


class _Listed(BaseModel):
    path: str
    type: str

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2] if self.type.startswith(OWN) else self.type


class _Reading(BaseModel):
    """sentence_bert_config.json."""

    max_seq_length: int | None = Field(default=None, ge=3)
    do_lower_case: bool = False
    transformer_task: Literal["feature-extraction"] = "feature-extraction"
    modality_config: Mapping[str, Any] = {}


class _Pooling(BaseModel):
    pooling_mode: Mode | tuple[Mode, ...] = "mean"
    include_prompt: Literal[True] = True


class _Dense(BaseModel):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: Literal[False] = False
    module_input_name: Literal["sentence_embedding"] = "sentence_embedding"
    module_output_name: Literal["sentence_embedding", None] = None


class _Prompts(BaseModel):
    """config_sentence_transformers.json."""

    prompts: Mapping[str, str] = {}
    default_prompt_name: str | None = None


@dataclass(frozen=True)
class Recipe:
    """What a folder of sentence-transformers says how to embed a text."""

    network: Path
    """The folder of the network and its tokenizer."""
    most: int | None
    """The most tokens to read; None where the tokenizer says it."""
    lower: bool
    prompts: Mapping[str, str]
    default: str | None
    """The name of the prompt to use where none is asked for."""
    stages: Sequence[Stage]
    """What comes behind the network, in order."""


def recipe(folder: Path, device: str) -> Recipe:
    """Return what `folder` says; CheckpointError where not all of it can be done here."""
    modules = _modules(folder)
    network = folder / modules[0].path
    reading = _told(_Reading, network / "sentence_bert_config.json")
    prompts = _told(_Prompts, folder / "config_sentence_transformers.json")
    return Recipe(
        network,
        reading.max_seq_length,
        reading.do_lower_case,
        prompts.prompts,
        prompts.default_prompt_name,
        [_stage(folder, module, device) for module in modules[1:]],
    )


def _modules(folder: Path) -> list[_Listed]:
    file = folder / MODULES
    try:
        modules = TypeAdapter(list[_Listed]).validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        raise CheckpointError(
            f"{file}: is no list of modules with path and type; fetch the file again"
        ) from error
    kinds = [module.kind for module in modules]
    strange = [kind for kind in kinds if kind not in {"Transformer", *_STAGES}]
    if strange:
        raise CheckpointError(
            f"{file}: lists modules of the kind {', '.join(map(repr, strange))}, which are not "
            f"done here; expected Transformer, {', '.join(_STAGES)} of sentence-transformers"
        )
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & {*kinds[2:]}:
        raise CheckpointError(
            f"{file}: lists {', '.join(kinds) or 'nothing'}, expected Transformer, Pooling, and "
            "Dense or Normalize behind them"
        )
    outside = [each.path for each in modules if not _below(folder, folder / each.path)]
    if outside:
        raise CheckpointError(f"{file}: names folders outside of its own: {', '.join(outside)}")
    return modules


def _below(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _told(kind: type[Told], file: Path) -> Told:
    content = read_json(file) if file.is_file() else {}
    return parsed(kind, file, content, "a text model of sentence-transformers")


def _stage(folder: Path, module: _Listed, device: str) -> Stage:
    return _STAGES[module.kind](folder / module.path, device)


def _pooling(folder: Path, device: str) -> Stage:
    file = folder / "config.json"
    told = read_json(file)
    older = [mode for key, mode in _OLDER.items() if told.get(key)]
    content = {"pooling_mode": tuple(older)} | told if older else told
    chosen = parsed(_Pooling, file, content, "a pooling that includes the prompt").pooling_mode
    modes = (chosen,) if isinstance(chosen, str) else chosen
    return lambda tokens: torch.cat([pooled(tokens, mode) for mode in modes], -1)


def pooled(tokens: Tensor, mode: Mode) -> Tensor:
    """Return one row, ``(1, dim)``, of the rows of all tokens."""
    count = len(tokens)
    if mode == "max":
        return tokens.amax(0, keepdim=True)
    if mode == "weightedmean":
        weights = torch.arange(1, count + 1, device=tokens.device, dtype=tokens.dtype)[:, None]
        return (tokens * weights).sum(0, keepdim=True) / weights.sum()
    if mode in ("cls", "lasttoken"):
        return tokens[:1] if mode == "cls" else tokens[-1:]
    by = count if mode == "mean" else count**0.5
    return tokens.sum(0, keepdim=True) / by


def _dense(folder: Path, device: str) -> Stage:
    file = folder / "config.json"
    told = parsed(_Dense, file, read_json(file), "a dense layer of sentence embeddings")
    if told.activation_function not in ACTIVATIONS:
        raise CheckpointError(
            f"{file}: activation_function is {told.activation_function!r}, expected one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    linear = built(lambda: nn.Linear(told.in_features, told.out_features, told.bias))
    rules = [Rule(r"linear\.(.*)", r"\1")]
    fill(linear, Checkpoint(folder), rules, dtype=torch.float32, device=device)
    activation = ACTIVATIONS[told.activation_function]()
    return lambda row: activation(linear(row))


def _normalize(folder: Path, device: str) -> Stage:
    return lambda row: nn.functional.normalize(row, dim=-1)


_STAGES: Final[Mapping[str, Callable[[Path, str], Stage]]] = {
    "Pooling": _pooling,
    "Dense": _dense,
    "Normalize": _normalize,
}
