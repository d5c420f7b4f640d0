"""BERT and RoBERTa encoders from a folder of safetensors, through transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mercore.backends import only_float32
from mercore.components import Inputs, IntArray, Noted, Record
from mercore.errors import CheckpointError
from mercore.inputs import text_of
from mercore.media import FloatArray
from mercore.nn import (
    HiddenStates,
    OnnxModel,
    chosen,
    device_of,
    dtype_of,
    moved,
    quiet_transformers,
    rows,
)
from mercore_starter.text import MINILM, MiniLM

FAMILIES = ("bert", "roberta", "xlm-roberta")
WANTED = ("config.json", "*.safetensors", "tokenizer*.json")
USEFUL = ("vocab.*", "merges.txt", "special_tokens_map.json", "*.model", "*.index.json")
# Parts that a checkpoint may have and an encoder does not use: the pooler and the pre-training
# heads, and position ids, which older versions saved though they are constants.
UNUSED = ("pooler.", "cls.", "lm_head.", "embeddings.position_ids")

States = Callable[[IntArray, IntArray], FloatArray]
"""From token ids and their mask, ``(texts, longest)``, to hidden states."""


class TextEncoder:
    """The function ``MiniLM.load`` returns."""

    def __init__(self, options: MiniLM, device: str, dtype: str) -> None:
        folder = MINILM.path_of(options.checkpoint, WANTED, USEFUL)
        self._options = options
        self._config = read_config(folder)
        self._layers = chosen(options.layers, self._config.num_hidden_layers, "minilm")
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._longest = _longest(self._config)
        self._record: Record = {}
        if options.backend == "onnx":
            self._states = self._exported(folder, device, dtype)
        else:
            self._states = self._loaded(folder, device, dtype)

    def _loaded(self, folder: Path, device: str, dtype: str) -> States:
        place = device_of(device)
        model = self._reduced(folder, dtype_of(dtype)).to(place)

        @torch.inference_mode()
        def states(ids: IntArray, mask: IntArray) -> FloatArray:
            return rows(model(moved(ids, device), moved(mask, device)))

        return states

    def _exported(self, folder: Path, device: str, dtype: str) -> States:
        only_float32("minilm", dtype)
        axes = {0: "texts", 1: "tokens"}
        model = OnnxModel(
            self._options,
            lambda: self._reduced(folder, torch.float32),
            [_example(1, 5, self._config), _example(3, 11, self._config)],
            {"ids": axes, "mask": axes},
            device=device,
            int8=self._options.int8,
        )
        self._record = model.record
        return model

    def _reduced(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        model = load_model(folder, self._config, dtype)
        return _Reduced(model, self._layers, self._options.reduce).eval()

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        texts = [text_of(sample).strip() for sample in batch]
        spoken = [text for text in texts if text]
        encoded = iter(self._encode(spoken) if spoken else [])
        nothing = np.zeros((1, self._config.hidden_size), np.float32)
        return [next(encoded) if text else nothing for text in texts]

    def _encode(self, texts: Sequence[str]) -> list[FloatArray | Noted[FloatArray]]:
        tokens = [self._tokenizer(text, verbose=False)["input_ids"] for text in texts]
        # The closing token stays when a text is cut, as in training.
        read = [
            ids if len(ids) <= self._longest else [*ids[: self._longest - 1], ids[-1]]
            for ids in tokens
        ]
        padded = self._tokenizer.pad({"input_ids": read}, return_tensors="np")
        # (texts, longest, dim)
        states = self._states(padded["input_ids"], padded["attention_mask"])
        edge = 0 if self._options.special_tokens else 1
        matrices = [row[edge : len(ids) - edge] for row, ids in zip(states, read, strict=True)]
        return [
            self._noted(matrix, len(ids), len(whole))
            for matrix, ids, whole in zip(matrices, read, tokens, strict=True)
        ]

    def _noted(self, matrix: FloatArray, read: int, tokens: int) -> FloatArray | Noted[FloatArray]:
        record = dict(self._record)
        if read < tokens:
            record |= {"tokens": tokens, "read": read}
        return Noted(matrix, record) if record else matrix


class _Reduced(nn.Module):
    """A text encoder that gives the reduced hidden states, padded: ``(texts, longest, dim)``."""

    def __init__(self, model: Any, layers: Sequence[int], reduce: Literal["mean", "sum"]) -> None:
        super().__init__()
        self.model = model
        blocks = model.encoder.layer
        self.hidden = HiddenStates(blocks, layers, reduce, depth=len(blocks))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.model(input_ids=ids, attention_mask=mask)
        return self.hidden.take()


def _example(texts: int, tokens: int, config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask of `texts` texts, each shorter than the one before."""
    numbers = torch.Generator().manual_seed(0)
    lengths = tokens - torch.arange(texts)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(3, config.vocab_size, (texts, tokens), generator=numbers)
    return torch.where(mask > 0, ids, config.pad_token_id), mask


def read_config(folder: Path) -> Any:
    """Return the encoder's configuration; ``CheckpointError`` for another family's."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} is a {config.model_type!r} model; minilm reads "
            f"{', '.join(FAMILIES)}"
        )
    return config


def load_model(folder: Path, config: Any, dtype: torch.dtype) -> Any:
    """Return the encoder in `folder`, each of its weights read; ``CheckpointError`` otherwise."""
    with quiet_transformers():
        model, info = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            add_pooling_layer=False,
            output_loading_info=True,
        )
    strange = [key for key in info["unexpected_keys"] if not _is_unused(key)]
    if info["missing_keys"] or info["mismatched_keys"] or strange:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} does not fit a {config.model_type!r} encoder: missing "
            f"{sorted(info['missing_keys'])!r}, of another shape "
            f"{sorted(info['mismatched_keys'])!r}, not expected {sorted(strange)!r}"
        )
    return model


def _is_unused(key: str) -> bool:
    return any(key.startswith(part) or f".{part}" in key for part in UNUSED)


def _longest(config: Any) -> int:
    """Return how many tokens the model reads; RoBERTa keeps its first positions for padding."""
    offset = 0 if config.model_type == "bert" else config.pad_token_id + 1
    return int(config.max_position_embeddings - offset)
