"""A published CT-Transformer: what the files of its folder say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml
from pydantic import BaseModel, Field

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, built, fill, parsed, read_json
from mercore_paraformer._punctuation_network import Punctuation, Sizes
from mercore_paraformer._punctuation_windows import Marks
from mercore_paraformer._punctuation_words import Cut, jieba_with

CONFIG, METAS, TOKENS, DICTIONARY = (
    "config.yaml",
    "configuration.json",
    ("tokens.json", "tokens.txt"),
    "jieba_usr_dict",
)
_SIGNS: Final[Mapping[str, str]] = {
    **{sign: sign for sign in "，。？、"},
    **{"_": "", "<unk>": "", ",": "，", ".": "。", "?": "？"},
}
"""What the names of the classes stand for."""


class ModelConf(BaseModel):
    """``model_conf`` of config.yaml."""

    embed_unit: int = Field(default=128, gt=0)
    att_unit: int = Field(default=256, gt=0)
    punc_list: list[str] = Field(min_length=2)
    sentence_end_id: int = Field(default=3, ge=0)


class TokenizerConf(BaseModel):
    """``tokenizer_conf`` of config.yaml."""

    unk_symbol: str = "<unk>"


class Config(BaseModel):
    """config.yaml."""

    model: Literal["CTTransformer"]
    encoder: Literal["SANMEncoder"]
    tokenizer: Literal["CharTokenizer"] = "CharTokenizer"
    model_conf: ModelConf
    encoder_conf: Sizes
    tokenizer_conf: TokenizerConf = TokenizerConf()


@dataclass(frozen=True)
class Published:
    """The files of a folder, read."""

    folder: Path
    config: Config
    vocabulary: Mapping[str, int]
    marks: Marks
    dictionary: Path | None
    """What jieba needs to cut text into words; None where each character is one."""

    @cached_property
    def unknown(self) -> int:
        """The number of words that are not in the vocabulary."""
        return self.vocabulary[self.config.tokenizer_conf.unk_symbol]

    def number(self, word: str) -> int:
        """Return the number of the word in the vocabulary."""
        return self.vocabulary.get(word, self.unknown)

    def cut(self) -> Cut | None:
        """Return what cuts text into words, or None where each character is one."""
        return jieba_with(self.dictionary) if self.dictionary else None

    def network(self, device: str, dtype: torch.dtype) -> Punctuation:
        """Return the network with its weights on `device`."""
        sizes, classes = self.config.encoder_conf, len(self.config.model_conf.punc_list)
        network = built(lambda: Punctuation(sizes, len(self.vocabulary), classes))
        return fill(network, Checkpoint(self.folder), dtype=dtype, device=device)


def published(checkpoint: str) -> Published:
    """Return what is published at `checkpoint`; raises CheckpointError where it does not fit."""
    folder = locate(
        checkpoint,
        wanted=(CONFIG, ("*.safetensors", "*.pt"), TOKENS),
        useful=(METAS, DICTIONARY),
    )
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; expected the folder with it, {CONFIG} and {TOKENS[0]}"
        )
    metas = _metas(folder)
    file = _named(folder, metas, "config") or folder / CONFIG
    config = _config(file)
    tokens = _named(folder, metas.get("tokenizer_conf"), "token_list") or _first(folder, TOKENS)
    vocabulary = _vocabulary(tokens, config.tokenizer_conf.unk_symbol)
    marks = _marks(file, config.model_conf)
    return Published(folder, config, vocabulary, marks, _dictionary(folder, metas))


def _metas(folder: Path) -> Mapping[str, Any]:
    """Return which files configuration.json names, where there is one."""
    file = folder / METAS
    named = read_json(file).get("file_path_metas", {}) if file.is_file() else {}
    return named if isinstance(named, dict) else {}


def _named(folder: Path, names: object, key: str) -> Path | None:
    """Return the file that `names` has under `key`, where it is there."""
    name = names.get(key) if isinstance(names, dict) else None
    return folder / name if isinstance(name, str) and (folder / name).is_file() else None


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


def _config(file: Path) -> Config:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file}: is no YAML: {reason}; fetch the file again") from error
    config = parsed(Config, file, content, "a CT-Transformer")
    sizes, model = config.encoder_conf, config.model_conf
    if (model.embed_unit, model.att_unit) != (sizes.input_size, sizes.output_size):
        raise CheckpointError(
            f"{file}: embed_unit and att_unit are {model.embed_unit} and {model.att_unit}, but the "
            f"encoder goes from {sizes.input_size} to {sizes.output_size}; fetch the file again"
        )
    return config


def _marks(file: Path, conf: ModelConf) -> Marks:
    strange = [name for name in conf.punc_list if name not in _SIGNS]
    if strange:
        raise CheckpointError(
            f"{file}: punc_list has {strange!r}; expected names out of {list(_SIGNS)!r}"
        )
    signs = tuple(_SIGNS[name] for name in conf.punc_list)
    if signs[conf.sentence_end_id : conf.sentence_end_id + 1] != ("。",):
        raise CheckpointError(
            f"{file}: sentence_end_id is {conf.sentence_end_id}, which is not '。' in punc_list "
            f"{conf.punc_list!r}; fetch the file again"
        )
    return Marks(signs, conf.sentence_end_id)


def _vocabulary(file: Path, unknown: str) -> Mapping[str, int]:
    try:
        text = file.read_text(encoding="utf-8")
        tokens = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except ValueError as error:
        raise CheckpointError(f"{file}: cannot be read: {error}; fetch it again") from error
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"{file}: holds no list of words; fetch it again")
    numbers = {token: number for number, token in enumerate(tokens)}
    if len(numbers) < len(tokens) or unknown not in numbers:
        fault = f"lacks {unknown!r}" if unknown not in numbers else "has a word twice"
        raise CheckpointError(f"{file}: {fault}; fetch it again")
    return numbers


def _dictionary(folder: Path, metas: Mapping[str, Any]) -> Path | None:
    """Return the dictionary for jieba; configuration.json names it, where there is one."""
    if metas:
        return _named(folder, metas, DICTIONARY)
    return folder / DICTIONARY if (folder / DICTIONARY).is_file() else None
