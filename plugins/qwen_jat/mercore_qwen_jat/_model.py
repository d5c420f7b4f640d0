"""From audio and text to the hidden states of the language model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from pydantic import JsonValue

from mercore.components import Inputs, Noted
from mercore.errors import InputError, RegistryError
from mercore.inputs import audio_of, text_of
from mercore.media import FloatArray
from mercore.nn import (
    Checkpoint,
    HiddenStates,
    built,
    chosen,
    device_of,
    dtype_of,
    fill,
    moved,
    rows,
)
from mercore_qwen_jat import QwenJAT
from mercore_qwen_jat._files import layout_of, located, tokens_of
from mercore_qwen_jat._mel import RATE, SAMPLES, log_mel, padded_length
from mercore_qwen_jat._tower import JointModel

SHORTEST: Final = 480  # samples: 30 ms, which give one row
_SYSTEM: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_ANSWER: Final = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class _Sequence:
    """What the model reads of one sample."""

    samples: FloatArray
    frames: int
    """Behind the second convolution; two of them are a row."""
    ids: list[int]
    """The numbers of all tokens; those of the audio stand for its rows."""
    span: slice
    """The audio span in `ids`, with its two markers."""
    words: slice
    """The transcript in `ids`."""
    record: dict[str, JsonValue] = field(default_factory=dict)


class QwenJATModel:
    """The function ``QwenJAT.load`` returns."""

    def __init__(self, options: QwenJAT, device: str, dtype: str) -> None:
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        # On a CPU padding costs more than a batch saves.
        self.padded = device_of(device).type == "cuda"
        folder = located(options.checkpoint)
        self._layout = layout_of(folder)
        self._tokens = tokens_of(folder, self._layout)
        self._head, self._joint, self._tail = self._fixed()
        depth = self._layout.depth
        layers = chosen(options.layers, depth, "qwen_jat")
        self._model = self._filled(Checkpoint(folder), max(1, *layers))
        llm = self._model.llm
        self._states = HiddenStates(llm.layers, layers, options.reduce, depth=depth, final=llm.norm)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        sequences = [self._sequence(sample) for sample in batch]
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

    def _runs(self, sequences: list[_Sequence]) -> Iterator[list[_Sequence]]:
        if self.padded:
            yield sequences
        else:
            yield from ([sequence] for sequence in sequences)

    def _encoded(self, run: list[_Sequence]) -> list[torch.Tensor]:
        """Return the rows that are asked for, ``(rows, hidden)`` a sample, on the device."""
        # Causal, no mask: given so, none is looked for, which would wait for the device.
        causal: Any = {"full_attention": None}
        embedded = self._embedded(run)
        self._model.llm(inputs_embeds=embedded, attention_mask=causal, use_cache=False)
        states = self._states.take()  # (samples, longest, hidden)
        return [states[i, self._pool(sequence)] for i, sequence in enumerate(run)]

    def _pool(self, sequence: _Sequence) -> slice:
        whole = slice(0, len(sequence.ids))
        return {"all": whole, "audio": sequence.span, "text": sequence.words}[self._options.pool]

    def _embedded(self, run: list[_Sequence]) -> torch.Tensor:
        """Return what the language model reads: ``(samples, longest, hidden)``.

        Padding stands behind each sequence, so that causal attention never sees it.
        """
        ids = np.zeros((len(run), max(len(sequence.ids) for sequence in run)), np.int64)
        for row, sequence in zip(ids, run, strict=True):
            row[: len(sequence.ids)] = sequence.ids
        embedded: torch.Tensor = self._model.llm.embed_tokens(moved(ids, self._device))
        heard = self._heard(run)
        for own, audio, sequence in zip(embedded, heard, run, strict=True):
            first, last = sequence.span.start, sequence.span.stop - 1
            own[first + 1 : last] = audio[: last - first - 1]
            if self._layout.markers:
                own[first], own[last] = self._model.markers.weight
        return embedded

    def _heard(self, run: list[_Sequence]) -> torch.Tensor:
        longest = padded_length(max(len(sequence.samples) for sequence in run))
        waves = np.zeros((len(run), longest), np.float32)
        for row, sequence in zip(waves, run, strict=True):
            row[: len(sequence.samples)] = sequence.samples
        mel = log_mel(moved(waves, self._device), self._model.encoder.num_mel_bins)
        frames = [sequence.frames for sequence in run]
        return self._model.heard(mel.to(self._dtype), frames, self._layout.beyond)

    def _sequence(self, sample: Inputs) -> _Sequence:
        """Return what the model reads of the sample; raises InputError for unfit audio."""
        samples, record = _audio_of(sample)
        frames = self._layout.frames(len(samples))
        before, audio, behind = map(self._number, self._layout.span)
        head = [*self._head, before, *[audio] * (frames // 2), behind]
        start = len(head) + len(self._joint)
        words = self._tokens.plain(text_of(sample).strip())
        room = self._layout.longest - start - len(self._tail)
        if len(words) > room:
            record |= {"tokens": len(words), "read_tokens": room}
            words = words[:room]
        return _Sequence(
            samples,
            frames,
            [*head, *self._joint, *words, *self._tail],
            span=slice(len(self._head), len(head)),
            words=slice(start, start + len(words)),
            record=record,
        )

    def _fixed(self) -> tuple[list[int], list[int], list[int]]:
        """Return what stands before the audio span, between it and the transcript, and last."""
        options, marked = self._options, self._tokens.marked
        prompt = self._prompt()
        chat = options.template == "chat"
        head = marked(_SYSTEM + self._layout.heading) if chat else []
        joint = marked("\n") if chat else []
        tail = [*prompt, *(marked(_ANSWER) if chat else [])]
        audio = self._layout.frames(SAMPLES) // 2 + 2
        room = self._layout.longest - len(head) - audio - len(joint) - len(tail)
        if room < 1:
            raise RegistryError(
                f"qwen_jat: option 'prompt' has {len(prompt)} tokens, {1 - room} too many beside "
                f"30 s of audio; the checkpoint reads {self._layout.longest} in all"
            )
        return head, joint, tail

    def _prompt(self) -> list[int]:
        """Return the prompt's tokens; raises RegistryError for special ones that cannot be."""
        prompt = self._options.prompt
        for token in (*re.findall(r"<\|[^\s<|>]+\|>", prompt), *self._layout.span):
            if self._tokens.number(token) is None:
                raise RegistryError(
                    f"qwen_jat: option 'prompt' has {token!r}, which is no special token of the "
                    "checkpoint; use one that is, or words"
                )
            if token in self._layout.span and token in prompt:
                raise RegistryError(
                    f"qwen_jat: option 'prompt' has the token {token!r}; the audio stands before "
                    "the transcript by itself, so leave it out"
                )
        return self._tokens.marked(prompt)

    def _number(self, token: str) -> int:
        number = self._tokens.number(token)
        assert number is not None, token  # `tokens_of` has looked
        return number

    def _filled(self, checkpoint: Checkpoint, layers: int) -> JointModel:
        layout = self._layout
        layout.check(checkpoint)
        audio, text, whole = layout.audio, layout.text(layers), layers == layout.depth
        model = built(lambda: JointModel(audio, text, markers=layout.markers, norm=whole))
        return fill(model, checkpoint, layout.cut(layers), dtype=self._dtype, device=self._device)


def _audio_of(sample: Inputs) -> tuple[FloatArray, dict[str, JsonValue]]:
    """Return the first 30 s, and what to note about them."""
    audio = audio_of(sample, rate=RATE, least=SHORTEST)
    if len(audio) > SAMPLES:
        seconds = round(len(audio) / RATE, 3)
        return audio[:SAMPLES], {"seconds": seconds, "read": SAMPLES / RATE}
    return audio, {}


def _at_least_one(matrix: FloatArray) -> FloatArray:
    """Return the rows, or one of zeros where there are none."""
    return matrix if len(matrix) else np.zeros((1, matrix.shape[1]), np.float32)
