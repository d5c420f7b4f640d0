"""Training Qwen-Audio and Qwen2-Audio: to answer with the emotion's word, or by a head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss
from torch.nn.utils.rnn import pad_sequence

from mercore.components import Inputs
from mercore.errors import RunError
from mercore.nn import HiddenStates, chosen, merged, rated
from mercore.tuning import Example, Group, Trainee
from mercore_qwen_jat import QwenJAT, QwenTuning
from mercore_qwen_jat._answers import Answers
from mercore_qwen_jat._files import Published, published
from mercore_qwen_jat._mel import log_mel, padded_length
from mercore_qwen_jat._saving import save
from mercore_qwen_jat._sequences import TOKEN, JointSequence, Sequences
from mercore_qwen_jat._training import Answerer, Classifier, lm_head_of, network_of

_ENDS: Final = {"plain": "<|endoftext|>", "chat": "<|im_end|>"}
_PADDING: Final = {"places": TOKEN, "groups": -1}  # of the others it is 0


class _JointTrainee(Trainee):
    """What both objectives have in common: the sequence of a sample, and what is saved."""

    def __init__(self, found: Published, tuning: QwenTuning, sequences: Sequences) -> None:
        self._found, self._tuning, self._sequences = found, tuning, sequences
        self._bins = found.layout.audio.num_mel_bins

    @abstractmethod
    def _read(self, sequence: JointSequence) -> Mapping[str, Sequence[int]]:
        """Return what a batch holds of a sequence for each token."""

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return the spectrogram ``(time, bins)`` and the tokens to read, ``(tokens,)``."""
        sequence = self._sequences.of(inputs)
        waves = np.zeros(padded_length(len(sequence.samples)), np.float32)
        waves[: len(sequence.samples)] = sequence.samples
        mel = log_mel(torch.from_numpy(waves)[None], self._bins)[0]
        seen = 2 * sequence.frames + self._found.layout.beyond
        return {
            "mel": mel[:, :seen].T.contiguous().numpy(),
            "frames": np.ones(sequence.frames, bool),
            **{name: np.array(row) for name, row in self._read(sequence).items()},
        }

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return the same with padding behind; the spectrogram is ``(batch, bins, time)``."""
        found = {
            name: pad_sequence(
                [torch.from_numpy(each[name]) for each in examples],
                batch_first=True,
                padding_value=_PADDING.get(name, 0),
            )
            for name in examples[0]
        }
        return found | {"mel": found["mel"].transpose(1, 2)}

    def groups(self) -> list[Group]:
        """Return the head's parameters and what LoRA adds at the whole rate, the others at less."""
        return rated(self.module, self._tuning)

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the published layout, without the head."""
        save(self._found, folder, merged(tensors, self._tuning))


class HeadTrainee(_JointTrainee):
    """The model with a head on the mean of the rows that are kept."""

    def __init__(
        self, encoder: QwenJAT, tuning: QwenTuning, classes: int, *, weights: bool
    ) -> None:
        found = published(encoder.checkpoint)
        super().__init__(found, tuning, Sequences(encoder, found.layout, found.tokens))
        self._encoder, depth = encoder, found.layout.depth
        layers = chosen(encoder.layers, depth, "qwen_jat")
        network = network_of(found, tuning, max(1, *layers), weights)
        llm = network.model.llm
        states = HiddenStates(llm.layers, layers, encoder.reduce, depth=depth, final=llm.norm)
        self.module = Classifier(network, states, classes)

    def _read(self, sequence: JointSequence) -> Mapping[str, Sequence[int]]:
        kept = range(len(sequence.ids))[sequence.pooled(self._encoder)]
        counts = [place in kept for place in range(len(sequence.ids))]
        return {"ids": sequence.ids, "places": sequence.places, "counts": counts}


class WordTrainee(_JointTrainee):
    """The model with its output layer, which answers with the word of the class."""

    def __init__(
        self, encoder: QwenJAT, tuning: QwenTuning, classes: int, *, weights: bool
    ) -> None:
        found = published(encoder.checkpoint)
        if len(tuning.words) != classes:
            raise RunError(
                f"words: has {len(tuning.words)}, expected one for each of {classes} classes"
            )
        self._answers = Answers.of(tuning.words.values(), found.tokens, _ENDS[encoder.template])
        room = self._answers.longest
        super().__init__(found, tuning, Sequences(encoder, found.layout, found.tokens, room))
        network = network_of(found, tuning, found.layout.depth, weights)
        lm_head = lm_head_of(found, network, tuning, weights)
        self.module = Answerer(network, lm_head, self._answers)

    def _read(self, sequence: JointSequence) -> Mapping[str, Sequence[int]]:
        answers, length = self._answers, len(sequence.ids)
        return {
            "ids": [*sequence.ids, *answers.ids],
            "places": [*sequence.places, *[TOKEN] * len(answers.ids)],
            "groups": [*[0] * length, *answers.groups],
            "positions": [*range(length), *answers.positions(length)],
        }

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return the same with padding behind, and how many tokens the prompts have."""
        found = super().batch(examples)
        return found | {"lengths": (found["groups"] == 0).sum(1)}

    def loss(self, logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
        """Return the next-token loss: of each sample the mean over the tokens of its answer."""
        options.pop("label_smoothing", None)  # refused by the options
        tokens = torch.tensor([len(word) for word in self._answers.words], device=logits.device)
        return nll_loss(logits / tokens, labels, **options)
