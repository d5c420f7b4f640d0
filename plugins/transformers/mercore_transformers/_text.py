"""Text encoders and decoders of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from mercore.components import Inputs, Noted
from mercore.errors import InputError
from mercore.inputs import text_of
from mercore.media import FloatArray
from mercore.nn import moved, rows
from mercore_transformers._loading import loaded
from mercore_transformers._runs import budget_of, runs
from mercore_transformers._sources import Pretrained, found
from mercore_transformers._states import reduced
from mercore_transformers._tokens import USEFUL, WANTED, Piece, Tokens
from mercore_transformers.options import Layered
from mercore_transformers.text import TransformersText

PADDED: Final = frozenset(
    {
        *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"),
        *("gemma", "gpt2", "llama", "mistral", "modernbert", "mpnet", "mt5", "phi3", "qwen2"),
        *("qwen3", "roberta", "t5", "umt5", "xlm-roberta"),
    }
)
"""Families in which padding on the right, masked, was tried to change nothing."""


class TextModel:
    """Runs a network on pieces of tokens; none depends on the others."""

    def __init__(self, source: Pretrained, device: str, dtype: str) -> None:
        self._device, self._config = device, source.config
        self.model = loaded(source, device, dtype)
        self.pads = source.config.model_type in PADDED
        self.budget = budget_of(device, cpu=2048, cuda=16_384)
        """The most tokens of one run, with padding."""

    @property
    def positions(self) -> int | None:
        """How many tokens the network has positions for; None where it does not say."""
        most = getattr(self._config, "max_position_embeddings", None)
        if not isinstance(most, int) or most < 1:
            return None
        tables = (
            module
            for name, module in self.model.named_modules()
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        )
        # RoBERTa and its kin keep the first positions for padding.
        unused = next((table.padding_idx for table in tables if table.padding_idx is not None), -1)
        return most - unused - 1

    @property
    def vocabulary(self) -> int:
        """How many tokens the network knows."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @torch.inference_mode()
    def states(self, pieces: Sequence[Piece], options: Layered) -> list[Tensor]:
        """Return the combined hidden states of each piece, ``(tokens, dim)``, on the device."""
        states: dict[int, Tensor] = {}
        lengths = [len(piece.ids) for piece in pieces]
        for places in runs(lengths, self.budget, alike=not self.pads):
            ids, mask = self._padded([pieces[place].ids for place in places])
            output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            for row, place in zip(reduced(output, options), places, strict=True):
                states[place] = row[: lengths[place]]
        return [states[place] for place in range(len(pieces))]

    def _padded(self, lines: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, lines))
        # RoBERTa numbers positions by what is no padding.
        filling = getattr(self._config, "pad_token_id", None) or 0
        ids = np.full((len(lines), longest), max(filling, 0), np.int64)
        for row, line in zip(ids, lines, strict=True):
            row[: len(line)] = line
        mask = np.arange(longest) < np.array([len(line) for line in lines])[:, None]
        return moved(ids, self._device), moved(mask.astype(np.int64), self._device)


class TextEncoder:
    """The function ``TransformersText.load`` returns."""

    def __init__(self, options: TransformersText, device: str, dtype: str) -> None:
        source = found(options.checkpoint, "text", wanted=WANTED, useful=USEFUL)
        self._options = options
        self.model = TextModel(source, device, dtype)
        self._tokens = Tokens(
            source.folder,
            options.name,
            positions=self.model.positions,
            vocabulary=self.model.vocabulary,
            most=options.max_tokens,
        )
        width = source.config.hidden_size * (
            len(options.layers) if options.reduce == "concat" else 1
        )
        self._nothing = np.zeros((1, width), np.float32)

    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        cut = [self._tokens.pieces(self._options.prefix, text_of(sample)) for sample in batch]
        read = [pieces if self._options.chunk else pieces[:1] for pieces in cut]
        states = self.model.states([piece for pieces in read for piece in pieces], self._options)
        encoded = map(rows, states)
        return [
            noted(self._pooled([self._kept(next(encoded), piece) for piece in own]), own, all_)
            for own, all_ in zip(read, cut, strict=True)
        ]

    def _kept(self, matrix: FloatArray, piece: Piece) -> FloatArray:
        if not np.isfinite(matrix).all():
            raise InputError("the network gives values that are not finite; use dtype: float32")
        return matrix if self._options.special_tokens else matrix[~np.array(piece.special)]

    def _pooled(self, matrices: Sequence[FloatArray]) -> FloatArray:
        matrix = np.concatenate(matrices) if matrices else self._nothing
        if not len(matrix):
            return self._nothing
        if self._options.pool == "mean":
            mean: FloatArray = matrix.mean(0, keepdims=True)
            return mean
        return {"first": matrix[:1], "last": matrix[-1:]}.get(self._options.pool, matrix).copy()


def noted(
    matrix: FloatArray, read: Sequence[Piece], pieces: Sequence[Piece]
) -> FloatArray | Noted[FloatArray]:
    """Return the matrix, with a record where not all pieces of the text were read."""
    if len(read) == len(pieces):
        return matrix
    tokens, encoded = (sum(piece.own for piece in some) for some in (pieces, read))
    return Noted(matrix, {"tokens": tokens, "read": encoded})
