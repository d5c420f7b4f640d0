"""Paraformer by torch: from features to the scores of each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from mercore.media import FloatArray
from mercore.nn import rows

FILTERED: Final = 50
"""With more hotwords than this, SeACo keeps those that fit the first sample of a batch best."""


class Network:
    """Scores features in batches.

    `network` is in float32; its encoder, the most of it, is brought to `dtype`. The rest stays:
    how many tokens are said is an integral along time, rounded down, and FunASR's decoder has masks
    in float32.
    """

    def __init__(
        self, network: nn.Module, dtype: torch.dtype, hotwords: Sequence[Sequence[int]] = ()
    ) -> None:
        self._network: Any = network
        if dtype is not torch.float32:
            network.get_submodule("encoder").to(dtype)
            self._network.encoder.embed = _Exactly(self._network.encoder.embed)
        # The last one stands for none of the others.
        self._hotwords = [*map(list, hotwords), [self._network.sos]] if hotwords else None
        self.alone = len(self._hotwords or ()) > FILTERED
        self._device, self._dtype = next(network.parameters()).device, dtype

    @torch.inference_mode()
    def __call__(self, features: Sequence[torch.Tensor]) -> list[FloatArray]:
        """Return log-probabilities ``(positions, vocabulary)`` for each ``(frames, size)``."""
        lengths = torch.tensor([len(some) for some in features], device=self._device)
        encoded = self.encode(features, lengths)  # (batch, frames, width)
        embedded, counts = self.predict(encoded, lengths)
        if not counts.max():
            return [embedded.new_zeros(0, self._network.vocab_size).cpu().numpy() for _ in features]
        scores = self.decode(encoded, lengths, embedded, counts)
        return [
            rows(own[:count]) for own, count in zip(scores, counts.tolist(), strict=True)
        ]

    def encode(self, features: Sequence[torch.Tensor], lengths: torch.Tensor) -> torch.Tensor:
        """Return the states of the encoder ``(batch, frames, width)``."""
        speech = pad_sequence(list(features), batch_first=True).to(self._device, self._dtype)
        encoded: torch.Tensor = self._network.encode(speech, lengths)[0]
        return encoded.float()

    def predict(
        self, encoded: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is heard at each position ``(batch, positions, width)``, and how many."""
        heard, counts = self._network.calc_predictor(encoded, lengths)[:2]
        return heard, counts.round().long().clamp(max=heard.shape[1])

    def decode(
        self,
        encoded: torch.Tensor,
        lengths: torch.Tensor,
        heard: torch.Tensor,
        counts: torch.Tensor,
    ) -> torch.Tensor:
        """Return log-probabilities ``(batch, positions, vocabulary)``."""
        given = (encoded, lengths, heard, counts)
        if self._hotwords is None:
            scores: torch.Tensor = self._network.decoder(*given)[0].log_softmax(-1)
        else:
            scores = self._network._seaco_decode_with_ASF(*given, hw_list=self._hotwords)
        return scores


class _Exactly(nn.Module):
    """Adds positions in float32: half precision cannot tell those of long clips apart."""

    def __init__(self, positions: nn.Module) -> None:
        super().__init__()
        self._positions = positions

    def forward(self, speech: torch.Tensor) -> torch.Tensor:
        """Return the speech with its positions added, in its own type."""
        added: torch.Tensor = self._positions(speech.float())
        return added.to(speech.dtype)
