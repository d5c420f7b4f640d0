"""Paraformer by torch: from features to the scores of each position."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from mercore.media import FloatArray
from mercore.nn import rows

ALIKE: Final = 0.8
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
            encoder: Any = network.get_submodule("encoder").to(dtype)
            encoder.embed = _Exactly(encoder.embed)
        # The last one stands for none of the others.
        self._hotwords = [*map(list, hotwords), [self._network.sos]] if hotwords else None
        self.alike = inf if len(self._hotwords or ()) > FILTERED else ALIKE
        self._device, self._dtype = next(network.parameters()).device, dtype

    @torch.inference_mode()
    def __call__(self, features: Sequence[torch.Tensor]) -> list[FloatArray]:
        """Return log-probabilities ``(positions, vocabulary)`` for each ``(frames, size)``."""
        lengths = torch.tensor([len(some) for some in features], device=self._device)
        # FunASR draws random numbers for each layer, and has no use for them here.
        with torch.random.fork_rng(devices=[]):
            encoded = self.encode(features, lengths)  # (batch, frames, width)
            heard, counts = self.predict(encoded, lengths)
            if not counts.any():
                return [np.zeros((0, self._network.vocab_size), np.float32) for _ in features]
            scores = self.decode(encoded, lengths, heard, counts)
        return [rows(own[:count]) for own, count in zip(scores, counts.tolist(), strict=True)]

    def encode(self, features: Sequence[torch.Tensor], lengths: torch.Tensor) -> torch.Tensor:
        """Return the states of the encoder ``(batch, frames, width)``, 0 behind the end of each.

        FunASR leaves numbers there, which the predictor, a convolution, takes for more speech.
        """
        speech = pad_sequence(list(features), batch_first=True).to(self._device, self._dtype)
        encoded: torch.Tensor = self._network.encode(speech, lengths)[0]
        behind = torch.arange(encoded.shape[1], device=self._device) >= lengths[:, None]
        return encoded.float().masked_fill(behind[..., None], 0.0)

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
