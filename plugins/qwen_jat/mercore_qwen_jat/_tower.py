"""Audio encoder, projector and language model as one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen2AudioEncoder, Qwen2AudioEncoderConfig, Qwen2Config, Qwen2Model


class JointModel(nn.Module):
    """What `Qwen-Audio` and `Qwen2-Audio` have in common, with the names of transformers."""

    def __init__(
        self, audio: Qwen2AudioEncoderConfig, text: Qwen2Config, *, markers: bool, norm: bool
    ) -> None:
        super().__init__()
        self.encoder = Qwen2AudioEncoder(audio)
        self.projector = nn.Linear(audio.d_model, text.hidden_size)
        self.llm = Qwen2Model(text)
        if markers:
            self.markers = nn.Embedding(2, text.hidden_size)
        if not norm:
            self.llm.add_module("norm", nn.Identity())

    def heard(self, mel: torch.Tensor, frames: Sequence[int], beyond: int) -> torch.Tensor:
        """Return the audio as the language model reads it: ``(clips, longest // 2, hidden)``.

        `mel` is ``(clips, bins, time)``; `frames` is how many of the frames behind the second
        convolution belong to each clip, and `beyond` how many spectrogram frames behind them the
        convolutions may see. No clip's rows depend on the others.
        """
        longest = max(frames)
        mel = mel[..., : 2 * longest + beyond]
        own = torch.tensor(frames)[:, None]
        uneven = min(frames) < longest
        if uneven:
            seen = torch.arange(mel.shape[-1]) < 2 * own + beyond
            mel = mel * seen[:, None].to(mel.device, mel.dtype, non_blocking=True)
        x = F.gelu(self.encoder.conv1(mel))
        x = F.gelu(self.encoder.conv2(x))[..., :longest].transpose(1, 2)  # (clips, longest, width)
        x = x + self.encoder.embed_positions.weight[:longest]
        mask = None
        if uneven:
            keys = torch.arange(longest) < own
            mask = keys[:, None, None].to(mel.device, non_blocking=True)
            mask = mask.expand(-1, 1, longest, -1)  # (clips, 1, queries, keys)
        for layer in self.encoder.layers:
            x = layer(x, mask)
        x = self.encoder.avg_pooler(x.transpose(1, 2)).transpose(1, 2)
        out: torch.Tensor = self.projector(self.encoder.layer_norm(x))
        return out
