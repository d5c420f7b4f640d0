"""Baichuan through transformers' LlamaModel: rotary positions for 7B, ALiBi for 13B."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch

from mercore.components import Inputs, Noted
from mercore.errors import InputError
from mercore.inputs import text_of
from mercore.media import FloatArray
from mercore.nn import HiddenStates, chosen, device_of, dtype_of, moved, rows
from mercore_baichuan import Baichuan
from mercore_baichuan._alibi import Alibi
from mercore_baichuan._network import published
from mercore_baichuan._tokens import Line, Lines

# Tokens a run, with padding: enough to fill the device, little enough for its memory.
TOKENS: Final = {"cpu": 2048, "cuda": 16384}


class BaichuanModel:
    """The function ``Baichuan.load`` returns."""

    def __init__(self, options: Baichuan, device: str, dtype: str) -> None:
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        self._at_once = TOKENS[device_of(device).type]
        found = published(options.checkpoint)
        self._sizes = found.sizes
        self._lines = Lines(options, found.folder, self._sizes)
        depth = self._sizes.num_hidden_layers
        layers = chosen(options.layers, depth, "baichuan")
        self._model = found.network(
            max(1, *layers), norm=depth in layers, dtype=self._dtype, device=device
        )
        self._states = HiddenStates(
            self._model.layers, layers, options.reduce, depth=depth, final=self._model.norm
        )
        heads = self._sizes.num_attention_heads
        self._alibi = None if self._sizes.rotary else Alibi(heads, self._dtype, device)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        lines = [self._lines.line(text_of(sample)) for sample in batch]
        runs = list(in_runs(lines, self._at_once))
        # Nothing waits for the device before the last run is under way.
        states = [self._run([lines[place] for place in run]) for run in runs]
        found = [np.zeros((1, self._sizes.hidden_size), np.float32) for _ in lines]
        for run, matrix in zip(runs, map(rows, states), strict=True):
            ends = np.cumsum([len(lines[place].rows(self._options.pool)) for place in run])
            for place, own in zip(run, np.split(matrix, ends[:-1]), strict=True):
                found[place] = self._finished(own)
        return [_noted(own, line) for own, line in zip(found, lines, strict=True)]

    def _run(self, lines: Sequence[Line]) -> torch.Tensor:
        """Return the rows wanted of all lines, one line after the other, on the device."""
        longest = max(len(line.ids) for line in lines)
        # Padding comes last, and no token looks at what comes after it: nothing has to be masked.
        ids = np.zeros((len(lines), longest), np.int64)
        for row, line in zip(ids, lines, strict=True):
            row[: len(line.ids)] = line.ids
        kept = [
            index * longest + at
            for index, line in enumerate(lines)
            for at in line.rows(self._options.pool)
        ]
        self._model(
            input_ids=moved(ids, self._device),
            attention_mask=self._alibi(longest) if self._alibi else None,
            use_cache=False,
        )
        states = self._states.take().flatten(0, 1)  # (lines * longest, dim)
        return states[moved(np.array(kept), self._device)]

    def _finished(self, matrix: FloatArray) -> FloatArray:
        """Return the rows of one text as asked for, in memory of their own."""
        if not np.isfinite(matrix).all():
            raise InputError(
                f"baichuan gives values that are not finite in {str(self._dtype)[6:]}; use "
                "bfloat16 or float32"
            )
        return matrix.mean(0, keepdims=True) if self._options.pool == "mean" else matrix.copy()


def in_runs(lines: Sequence[Line], budget: int) -> Iterator[list[int]]:
    """Yield the places of the lines that have text, those of like length together.

    Padded to its longest, a run holds at most `budget` tokens, or one line.
    """
    run: list[int] = []
    for place in sorted(range(len(lines)), key=lambda place: len(lines[place].ids)):
        if not lines[place].read:
            continue
        if run and (len(run) + 1) * len(lines[place].ids) > budget:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _noted(matrix: FloatArray, line: Line) -> FloatArray | Noted[FloatArray]:
    if line.read == line.tokens:
        return matrix
    return Noted(matrix, {"tokens": line.tokens, "read": line.read})
