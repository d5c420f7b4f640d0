"""From audio and text to the hidden states of the language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mercore.components import Inputs, Noted
from mercore.errors import InputError
from mercore.media import FloatArray
from mercore.nn import HiddenStates, chosen, device_of, dtype_of, moved, rows
from mercore_qwen_jat import QwenJAT
from mercore_qwen_jat._files import published
from mercore_qwen_jat._mel import log_mel, padded_length
from mercore_qwen_jat._sequences import TOKEN, JointSequence, Sequences


class QwenJATModel:
    """The function ``QwenJAT.load`` returns."""

    def __init__(self, options: QwenJAT, device: str, dtype: str) -> None:
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        # On a CPU padding costs more than a batch saves.
        self.padded = device_of(device).type == "cuda"
        found = published(options.checkpoint)
        self._layout = found.layout
        self._sequences = Sequences(options, found.layout, found.tokens)
        depth = found.layout.depth
        layers = chosen(options.layers, depth, "qwen_jat")
        self._model = found.filled(max(1, *layers), dtype=self._dtype, device=device)
        llm = self._model.llm
        self._states = HiddenStates(llm.layers, layers, options.reduce, depth=depth, final=llm.norm)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        sequences = [self._sequences.of(sample) for sample in batch]
        # Nothing waits for the device before the last run is under way.
        parts = [part for run in self._runs(sequences) for part in self._encoded(run)]
        matrix = rows(torch.cat(parts))
        if not np.isfinite(matrix).all():
            raise InputError(
                f"qwen_jat gives values that are not finite in {str(self._dtype)[6:]}; if the "
                "audio is sound, use bfloat16 or float32"
            )
        ends = np.cumsum([len(part) for part in parts])
        return [
            Noted(own, sequence.record) if sequence.record else own
            for own, sequence in zip(
                map(_at_least_one, np.split(matrix, ends[:-1])), sequences, strict=True
            )
        ]

    def _runs(self, sequences: list[JointSequence]) -> Iterator[list[JointSequence]]:
        if self.padded:
            yield sequences
        else:
            yield from ([sequence] for sequence in sequences)

    def _encoded(self, run: list[JointSequence]) -> list[torch.Tensor]:
        """Return the rows that are asked for, ``(rows, hidden)`` a sample, on the device."""
        # Causal, no mask: given so, none is looked for, which would wait for the device.
        causal: Any = {"full_attention": None}
        embedded = self._embedded(run)
        self._model.llm(inputs_embeds=embedded, attention_mask=causal, use_cache=False)
        states = self._states.take()  # (samples, longest, hidden)
        return [states[i, sequence.pooled(self._options)] for i, sequence in enumerate(run)]

    def _embedded(self, run: list[JointSequence]) -> torch.Tensor:
        """Return what the language model reads: ``(samples, longest, hidden)``.

        Padding stands behind each sequence, so that causal attention never sees it.
        """
        longest = max(len(sequence.ids) for sequence in run)
        ids = np.zeros((len(run), longest), np.int64)
        places = np.full_like(ids, TOKEN)
        for row, sequence in enumerate(run):
            ids[row, : len(sequence.ids)] = sequence.ids
            places[row, : len(sequence.ids)] = sequence.places
        device = self._device
        return self._model.joined(moved(ids, device), moved(places, device), self._heard(run))

    def _heard(self, run: list[JointSequence]) -> torch.Tensor:
        longest = padded_length(max(len(sequence.samples) for sequence in run))
        waves = np.zeros((len(run), longest), np.float32)
        for row, sequence in zip(waves, run, strict=True):
            row[: len(sequence.samples)] = sequence.samples
        mel = log_mel(moved(waves, self._device), self._model.encoder.num_mel_bins)
        frames = [sequence.frames for sequence in run]
        return self._model.heard(mel.to(self._dtype), frames, self._layout.beyond)


def _at_least_one(matrix: FloatArray) -> FloatArray:
    """Return the rows, or one of zeros where there are none."""
    return matrix if len(matrix) else np.zeros((1, matrix.shape[1]), np.float32)
