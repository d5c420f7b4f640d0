"""What a folder of Paraformer holds, known before its weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from mercore.checkpoints import locate
from mercore.errors import CheckpointError
from mercore.nn import read_json
from mercore_paraformer._features import Features, features_of

Kind = Literal["Paraformer", "SeacoParaformer"]
KINDS: Final = ("Paraformer", "SeacoParaformer")

CONFIG: Final = "config.yaml"
CONFIGURATION: Final = "configuration.json"
TOKENS: Final = ("tokens.json", "tokens.txt")
CMVN: Final = "am.mvn"
SEGMENTS: Final = "seg_dict"


@dataclass(frozen=True, eq=False)
class Published:
    """A checkpoint, as ModelScope's repositories lay it out."""

    folder: Path
    network: Path
    """The file of the weights, or of the ONNX network."""
    kind: Kind
    told: Mapping[str, Any]
    """What config.yaml holds."""
    tokens: tuple[str, ...]
    features: Features
    files: Mapping[str, Path]
    """The files that lie beside the network, by their published name, where they are there."""

    @property
    def config(self) -> Path:
        """The file that says what the network is."""
        return self.files[CONFIG]


def published(checkpoint: str, network: str) -> Published:
    """Return what `checkpoint` holds, its network in the file `network`.

    Raises CheckpointError for files that are missing or cut, and for what is no Paraformer.
    """
    wanted = (CONFIG, network, TOKENS, CMVN)
    folder = locate(checkpoint, wanted=wanted, useful=(CONFIGURATION, SEGMENTS))
    if folder.is_file():
        raise CheckpointError(
            f"{str(folder)!r} is a file, expected a folder with {CONFIG}, {network}, {TOKENS[0]} "
            f"and {CMVN}"
        )
    names = _renamed(folder)
    files = {name: folder / names.get(name, name) for name in (CONFIG, CMVN, SEGMENTS, *TOKENS)}
    files = {name: path for name, path in files.items() if path.is_file()}
    told = _told_in(files[CONFIG])
    return Published(
        folder,
        folder / names.get(network, network),
        _kind(told, files[CONFIG]),
        told,
        _tokens_in(tokens_in(files)),
        features_of(_section(told, "frontend_conf"), files[CMVN], files[CONFIG]),
        files,
    )


def tokens_in(files: Mapping[str, Path]) -> Path:
    """Return the file that lists the tokens."""
    return next(files[name] for name in TOKENS if name in files)


def _renamed(folder: Path) -> dict[str, str]:
    """Return how configuration.json names the files, by their usual names."""
    file = folder / CONFIGURATION
    metas = read_json(file).get("file_path_metas", {}) if file.is_file() else {}
    tokenizer, frontend = metas.get("tokenizer_conf", {}), metas.get("frontend_conf", {})
    found = {
        CONFIG: metas.get("config"),
        "model.pt": metas.get("init_param"),
        TOKENS[0]: tokenizer.get("token_list"),
        SEGMENTS: tokenizer.get("seg_dict_file") or tokenizer.get("seg_dict"),
        CMVN: frontend.get("cmvn_file"),
    }
    return {name: own for name, own in found.items() if own and (folder / own).is_file()}


def _told_in(file: Path) -> dict[str, Any]:
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file}: is no YAML: {reason}; fetch the file again") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{file}: holds no mapping; fetch the file again")
    return told


def _kind(told: Mapping[str, Any], file: Path) -> Kind:
    """Return which network it is; raises CheckpointError for one that this cannot run."""
    for key, expected in {
        "model": KINDS,
        "frontend": ("WavFrontend", "wav_frontend"),
        "tokenizer": ("CharTokenizer",),
    }.items():
        if (found := told.get(key)) not in expected:
            raise CheckpointError(
                f"{file}: {key} is {found!r}, expected {' or '.join(map(repr, expected))}; give a "
                "Mandarin Paraformer or SeACo-Paraformer, such as the default checkpoint"
            )
    kind: Kind = told["model"]
    return kind


def _section(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _tokens_in(file: Path) -> tuple[str, ...]:
    text = file.read_text(encoding="utf-8")
    try:
        tokens = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except ValueError as error:
        raise CheckpointError(f"{file}: is no JSON: {error}; fetch the file again") from error
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"{file}: holds no list of tokens; fetch the file again")
    return tuple(token.rstrip() for token in tokens)
