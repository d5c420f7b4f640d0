"""Sentence embeddings: a network's tokens, pooled as the folder says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mercore.checkpoints import locate
from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, RegistryError, did_you_mean
from mercore.inputs import text_of
from mercore.media import FloatArray
from mercore.nn import rows
from mercore_transformers._modules import MODULES, Recipe, recipe
from mercore_transformers._sources import in_folder
from mercore_transformers._text import TextModel, noted
from mercore_transformers._tokens import Piece, Tokens
from mercore_transformers.sentences import SentenceTransformers
from mercore_transformers.text import TransformersText

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "0_*/model*.safetensors", "0_*/*.bin")
_BESIDE = ("*.json", "vocab.*", "merges.txt", "*.model", "[0-9]_*/*")


class SentenceEncoder:
    """The function ``SentenceTransformers.load`` returns."""

    def __init__(self, options: SentenceTransformers, device: str, dtype: str) -> None:
        folder = locate(options.checkpoint, wanted=(MODULES, _WEIGHTS), useful=_BESIDE)
        if folder.is_file():
            raise CheckpointError(f"{folder}: is a file; give the folder that holds {MODULES}")
        self._recipe = recipe(folder, device)
        self._prompt = _prompt(self._recipe, options)
        source = in_folder(self._recipe.network, "text")
        self._model = TextModel(source, device, dtype)
        self._tokens = Tokens(
            source.folder,
            options.name,
            positions=self._model.positions,
            vocabulary=self._model.vocabulary,
            most=options.max_tokens or self._recipe.most,
        )
        self._output = TransformersText(checkpoint=options.checkpoint)  # of the last layer
        nothing = torch.zeros(1, source.config.hidden_size, device=device)
        self._nothing = np.zeros((1, self._embedded(nothing).shape[-1]), np.float32)

    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        cut = [self._cut(text_of(sample)) for sample in batch]
        read = [pieces[:1] for pieces in cut]
        states = self._model.states([piece for pieces in read for piece in pieces], self._output)
        found = map(rows, [self._embedded(state) for state in states])
        return [
            noted(next(found) if own else self._nothing, own, pieces)
            for own, pieces in zip(read, cut, strict=True)
        ]

    def _cut(self, text: str) -> list[Piece]:
        # Stripped as a whole, as sentence-transformers does.
        whole = (self._prompt + text).strip() if text.strip() else ""
        return self._tokens.pieces("", whole.lower() if self._recipe.lower else whole)

    @torch.inference_mode()
    def _embedded(self, state: Tensor) -> Tensor:
        for stage in self._recipe.stages:
            state = stage(state)
        return state


def _prompt(found: Recipe, options: SentenceTransformers) -> str:
    name = options.prompt or found.default
    if name is None:
        return ""
    if name not in found.prompts:
        raise RegistryError(
            f"{options.name}: option 'prompt' is {name!r}, but the checkpoint has the prompts "
            f"{', '.join(found.prompts) or 'none'}{did_you_mean(name, found.prompts)}"
        )
    return found.prompts[name]
