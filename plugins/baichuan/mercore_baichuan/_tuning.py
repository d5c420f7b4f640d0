"""Training Baichuan: a head on the mean of its rows, or the next token of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mercore.components import Inputs
from mercore.errors import InputError, RunError
from mercore.inputs import text_of
from mercore.nn import (
    Checkpoint,
    HiddenStates,
    Rule,
    built,
    chosen,
    fill,
    merged,
    multiplied_in,
    rated,
)
from mercore.tuning import Example, Group, Trainee
from mercore_baichuan import Baichuan, BaichuanPretraining, BaichuanTuning
from mercore_baichuan._network import published
from mercore_baichuan._saving import save
from mercore_baichuan._tokens import Lines
from mercore_baichuan._training import Decoder, decoder

BAICHUAN2 = 125_696
"""The tokens of Baichuan2, whose output layer is normed; Baichuan has 64,000."""


class ClassifyingTrainee(Trainee):
    """A Baichuan with a head on the mean of its rows."""

    def __init__(
        self, encoder: Baichuan, tuning: BaichuanTuning, classes: int, *, weights: bool
    ) -> None:
        self._encoder, self._tuning = encoder, tuning
        self._found = published(encoder.checkpoint)
        self._lines = Lines(encoder, self._found.folder, self._found.sizes)
        layers = chosen(encoder.layers, self._found.sizes.num_hidden_layers, "baichuan")
        network = decoder(self._found, tuning, max(1, *layers), weights)
        states = HiddenStates(
            network.model.layers,
            layers,
            encoder.reduce,
            depth=self._found.sizes.num_hidden_layers,
            final=network.model.norm,
        )
        self.module = Classifier(network, states, classes)

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return the tokens to read, ``(tokens,)``, and which rows count."""
        line = self._lines.line(text_of(inputs))
        if not line.read:
            raise InputError("the text is empty")
        counts = np.zeros(len(line.ids), bool)
        counts[line.rows(self._encoder.pool)] = True
        return {"ids": np.array(line.ids), "counts": counts}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return the same with padding behind, ``(batch, tokens)``."""
        return {name: _padded(examples, name) for name in ("ids", "counts")}

    def groups(self) -> list[Group]:
        """Return the head's parameters and what LoRA adds at the whole rate, the others at less."""
        return rated(self.module, self._tuning)

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the published layout, without the head."""
        save(self._found, folder, merged(tensors, self._tuning))


class LanguageTrainee(Trainee):
    """A Baichuan with its output layer."""

    def __init__(self, encoder: Baichuan, tuning: BaichuanPretraining, *, weights: bool) -> None:
        self._tuning = tuning
        self._found = published(encoder.checkpoint)
        sizes = self._found.sizes
        if tuning.tokens > sizes.context:
            raise RunError(f"tokens: {tuning.tokens}: the checkpoint reads {sizes.context}")
        self._lines = Lines(encoder, self._found.folder, sizes)
        network = decoder(self._found, tuning, sizes.num_hidden_layers, weights)
        head = built(lambda: nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False))
        if weights:
            rules = [Rule(r"lm_head\.(weight)", r"\1"), Rule(".*", None)]
            weights_of = Checkpoint(self._found.path)
            fill(head, weights_of, rules, dtype=network.dtype, device="cpu")
        head.to(network.dtype).requires_grad_(tuning.train == "all")
        normed = tuning.norm_head
        self.module = LanguageModel(
            network, head, sizes.vocab_size == BAICHUAN2 if normed is None else normed
        )

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return the tokens to learn from, ``(tokens,)``."""
        ids = self._lines.plain(text_of(inputs))
        if not ids:
            raise InputError("the text is empty")
        ids.append(self._lines.end)
        most = self._tuning.tokens
        start = int(random.integers(max(1, len(ids) - most + 1))) if training else 0
        return {"ids": np.array(ids[start : start + most])}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return the same with padding behind, ``(batch, tokens)``, and how many are predicted."""
        items = torch.tensor([len(example["ids"]) - 1 for example in examples])
        return {"ids": _padded(examples, "ids"), "items": items}

    def groups(self) -> list[Group]:
        """Return what LoRA adds at the whole rate, other weights at less."""
        return rated(self.module, self._tuning, new=())

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the published layout."""
        save(self._found, folder, merged(tensors, self._tuning))


class Classifier(nn.Module):
    """From ids ``(batch, tokens)`` to ``{"logits": (batch, classes)}``."""

    def __init__(self, decoder: Decoder, states: HiddenStates, classes: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = nn.Linear(decoder.model.config.hidden_size, classes)
        self._states = states

    def forward(self, ids: Tensor, counts: Tensor) -> dict[str, Tensor]:
        self.decoder(ids)
        share = counts / counts.sum(1, keepdim=True)
        pooled = (self._states.take() * share[..., None]).sum(1)  # (batch, dim)
        return {"logits": self.head(pooled)}


class LanguageModel(nn.Module):
    """From ids ``(batch, tokens)`` to the loss of each next one."""

    def __init__(self, decoder: Decoder, head: nn.Linear, normed: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.lm_head = head
        self._normed = normed

    def forward(self, ids: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Return ``{"loss": mean}``; `items` are how many tokens of each text are predicted."""
        states = self.decoder(ids)[:, :-1]  # (batch, tokens - 1, dim)
        weight = self.lm_head.weight
        weight = nn.functional.normalize(weight) if self._normed else weight
        with multiplied_in(self.decoder.dtype, ids.device):
            logits = nn.functional.linear(states, weight)  # (batch, tokens - 1, vocabulary)
        places = torch.arange(1, ids.shape[1], device=ids.device)
        targets = ids[:, 1:].masked_fill(places > items[:, None], -100)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        return {"loss": loss}


def _padded(examples: Sequence[Example], name: str) -> Tensor:
    return pad_sequence([torch.from_numpy(each[name]) for each in examples], batch_first=True)
