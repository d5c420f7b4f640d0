"""BERT and RoBERTa encoders from a folder of safetensors, through transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as reports

from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, InputError, RegistryError, RunError
from mercore.media import FloatArray, Text
from mercore_starter.text import MINILM, MiniLM

FAMILIES = ("bert", "roberta", "xlm-roberta")
WANTED = ("config.json", "*.safetensors", "tokenizer*.json")
USEFUL = ("vocab.*", "merges.txt", "special_tokens_map.json", "*.model", "*.index.json")
# Parts that a checkpoint may have and an encoder does not use: the pooler and the pre-training
# heads, and position ids, which older versions saved though they are constants.
UNUSED = ("pooler.", "cls.", "lm_head.", "embeddings.position_ids")


class TextEncoder:
    """The function ``MiniLM.load`` returns."""

    def __init__(self, options: MiniLM, device: str, dtype: str) -> None:
        folder = MINILM.path_of(options.checkpoint, WANTED, USEFUL)
        self._options = options
        self._device = device
        self._model = load_model(folder, _dtype(dtype)).to(device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._longest = _longest(self._model.config)
        states = self._model.config.num_hidden_layers + 1
        wrong = [layer for layer in options.layers if not -states <= layer < states]
        if wrong:
            raise RegistryError(
                f"minilm: option 'layers' names {wrong!r}, but {options.checkpoint!r} has the "
                f"hidden states 0 to {states - 1}; negative numbers count from the last"
            )

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        texts = [_text_of(sample) for sample in batch]
        spoken = [text for text in texts if text]
        encoded = iter(self._encode(spoken) if spoken else [])
        nothing = np.zeros((1, self._model.config.hidden_size), np.float32)
        return [next(encoded) if text else nothing for text in texts]

    def _encode(self, texts: Sequence[str]) -> list[FloatArray | Noted[FloatArray]]:
        tokens = [self._tokenizer(text, verbose=False)["input_ids"] for text in texts]
        # The closing token stays when a text is cut, as in training.
        read = [
            ids if len(ids) <= self._longest else [*ids[: self._longest - 1], ids[-1]]
            for ids in tokens
        ]
        states = self._states(read)  # (texts, longest, dim)
        edge = 0 if self._options.special_tokens else 1
        rows = [row[edge : len(ids) - edge] for row, ids in zip(states, read, strict=True)]
        return [
            matrix if ids is whole else Noted(matrix, {"tokens": len(whole), "read": len(ids)})
            for matrix, ids, whole in zip(rows, read, tokens, strict=True)
        ]

    @torch.inference_mode()
    def _states(self, tokens: list[list[int]]) -> FloatArray:
        """Return the reduced hidden states, padded to the longest: ``(texts, longest, dim)``."""
        padded = self._tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self._device)
        hidden = self._model(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            output_hidden_states=True,
        ).hidden_states
        chosen = torch.stack([hidden[layer] for layer in self._options.layers]).float()
        reduced = chosen.mean(0) if self._options.reduce == "mean" else chosen.sum(0)
        states: FloatArray = reduced.cpu().numpy()
        return states


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """Return the encoder in `folder`, each of its weights read; ``CheckpointError`` otherwise."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} is a {config.model_type!r} model; minilm reads "
            f"{', '.join(FAMILIES)}"
        )
    with _quiet():
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a report of its own: mistakes become errors below."""
    level, bar = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.ERROR)
    reports.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bar:
            reports.enable_progress_bar()  # type: ignore[no-untyped-call]


def _is_unused(key: str) -> bool:
    return any(key.startswith(part) or f".{part}" in key for part in UNUSED)


def _longest(config: Any) -> int:
    """Return how many tokens the model reads; RoBERTa keeps its first positions for padding."""
    offset = 0 if config.model_type == "bert" else config.pad_token_id + 1
    return int(config.max_position_embeddings - offset)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise RunError(f"dtype {name!r} is not one; expected 'float32', 'bfloat16' or 'float16'")
    return found


def _text_of(sample: Inputs) -> str:
    text = sample["text"]
    if not isinstance(text, Text):
        raise InputError(f"the input 'text' holds {type(text).__name__}, expected text")
    return text.content.strip()
