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
        self.markers = nn.Embedding(2, text.hidden_size) if markers else None
        if not norm:
            self.llm.add_module("norm", nn.Identity())

    def joined(self, ids: torch.Tensor, places: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Return what the language model reads: ``(clips, tokens, hidden)``.

        `ids` and `places` are ``(clips, tokens)``. A place below 0 is that of a token, others say
        which row of `heard` stands there; where the markers are weights, 0 and 1 are these two,
        and the rows of `heard` follow.
        """
        if self.markers is not None:
            heard = torch.cat([self.markers.weight.expand(len(heard), -1, -1), heard], 1)
        tokens: torch.Tensor = self.llm.embed_tokens(ids)
        rows = places.clamp(min=0)[..., None].expand(-1, -1, heard.shape[-1])
        return torch.where(places[..., None] < 0, tokens, heard.gather(1, rows).to(tokens.dtype))

    def heard(self, mel: torch.Tensor, frames: Sequence[int], beyond: int) -> torch.Tensor:
        """Return the audio as the language model reads it: ``(clips, longest // 2, hidden)``.

        `mel` is ``(clips, bins, time)``; `frames` is how many of the frames behind the second
        convolution belong to each clip, and `beyond` how many spectrogram frames behind them the
        convolutions may see. No clip's rows depend on the others.
        """
        longest = max(frames)
        mel = mel[..., : 2 * longest + beyond]
        if min(frames) == longest:
            return self.rows(mel, longest)
        own = torch.tensor(frames)[:, None]
        seen = torch.arange(mel.shape[-1]) < 2 * own + beyond
        mel = mel * seen[:, None].to(mel.device, mel.dtype, non_blocking=True)
        there = torch.arange(longest) < own
        return self.rows(mel, longest, there.to(mel.device, non_blocking=True))

    def rows(
        self, mel: torch.Tensor, longest: int, there: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the same of spectrograms that are zero behind what is seen of each clip.

        `there`, ``(clips, longest)``, says which frames belong to a clip; without it all do.
        """
        x = F.gelu(self.encoder.conv1(mel))
        x = F.gelu(self.encoder.conv2(x))[..., :longest].transpose(1, 2)  # (clips, longest, width)
        x = x + self.encoder.embed_positions.weight[:longest]
        mask = None
        if there is not None:
            mask = there[:, None, None].expand(-1, 1, longest, -1)  # (clips, 1, queries, keys)
        for layer in self.encoder.layers:
            x = layer(x, mask)
        x = self.encoder.avg_pooler(x.transpose(1, 2)).transpose(1, 2)
        out: torch.Tensor = self.projector(self.encoder.layer_norm(x))
        return out
