"""Small ONNX files, and what torch gives for the same networks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

Axes = Mapping[str, Mapping[int, str]]


class Speech(nn.Module):
    """Windows of a waveform, ``(batch, frames, 6)``, and the logarithms of their loudness."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = nn.Conv1d(1, 6, 400, 160)
        self.head = nn.Linear(6, 6)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.windows(audio[:, None]).transpose(1, 2).tanh()
        return self.head(frames), frames.mean(1)


class Masked(Speech):
    """The same with more inputs: its numbers depend on what they hold."""

    def forward(self, audio: Tensor, mask: Tensor, length: Tensor) -> Tensor:  # type: ignore[override]
        first, _ = super().forward(audio * mask)
        return first * length[:, None, None] / 1000


class Single(Speech):
    """The same without a batch axis, ``(6, frames)``."""

    def forward(self, audio: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(audio[None])[0][0].T


class Sight(nn.Module):
    """A map of pictures, ``(batch, 5, rows, columns)``, and its mean ``(batch, 5)``."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 8, 8)
        self.last = last

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        pictures = pictures.permute(0, 3, 1, 2) if self.last else pictures
        cells = self.conv(pictures).tanh()
        return cells, cells.mean((2, 3))


class Raw(Sight):
    """Pictures as they are, uint8: it prepares them itself."""

    def forward(self, pictures: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pictures.float() / 255)[1]


class Reading(nn.Module):
    """Tokens that see the mean of all that are not masked, ``(batch, tokens, 7)``."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 7)
        self.kinds = nn.Embedding(2, 7)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        own = self.words(input_ids) + self.kinds(token_type_ids)
        weight = attention_mask[..., None].float()
        seen: Tensor = own + (own * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return seen


def made(network: nn.Module) -> nn.Module:
    """Return the network with weights that are the same each time."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def export(
    network: nn.Module,
    examples: Sequence[Tensor],
    file: Path,
    inputs: Axes,
    outputs: Sequence[str] = ("output",),
) -> Path:
    """Write the file; `inputs` names them, and the axes that may have any length."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter by tracing is deprecated
        torch.onnx.export(
            network,
            tuple(examples),
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in inputs.items()},
            dynamo=False,
        )
    return file


TOKENIZER = """
{"version": "1.0", "added_tokens": [], "normalizer": null,
 "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
 "truncation": null, "padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_id": 0,
 "pad_type_id": 0, "pad_token": "?", "pad_to_multiple_of": null},
 "model": {"type": "WordLevel", "unk_token": "?",
 "vocab": {"?": 0, "it": 1, "was": 2, "raining": 3, "all": 4, "day": 5, "no": 6, "why": 7,
 "query": 8, ":": 9, "did": 10, "you": 11}}}
"""
