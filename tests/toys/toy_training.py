"""The training of the toy encoder `learner`: one layer on counted letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mercore.components import Inputs
from mercore.inputs import text_of
from mercore.tuning import Example, Trainee
from mercore_toys import Learner, Learning

LETTERS = 26


def write(file: Path, seed: int = 0) -> Path:
    """Write a checkpoint with random weights."""
    numbers = torch.Generator().manual_seed(seed)
    save_file({"layer.weight": torch.randn(8, LETTERS, generator=numbers)}, file)
    return file


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(LETTERS, 8, bias=False)
        self.drop = nn.Dropout(0.2)

    def forward(self, counts: Tensor) -> Tensor:
        return torch.tanh(self.layer(counts))


class Classifier(nn.Module):
    def __init__(self, layer: Layer, classes: int, memory: int) -> None:
        super().__init__()
        self.body = layer
        self.head = nn.Linear(8, classes)
        self._memory = memory

    def forward(self, counts: Tensor) -> dict[str, Tensor]:
        if len(counts) > self._memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"logits": self.head(self.body.drop(self.body(counts)))}


class LearnerTrainee(Trainee):
    """See ``Learning``."""

    def __init__(self, encoder: Learner, tuning: Learning, classes: int, *, weights: bool) -> None:
        layer = Layer()
        if weights:
            layer.load_state_dict(load_file(file_of(encoder.checkpoint)))
        layer.requires_grad_(tuning.train == "all")
        self.module = Classifier(layer, classes, tuning.memory)

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        counts = counted(text_of(inputs))
        if training:
            counts = counts + random.normal(0, 0.1, LETTERS).astype(np.float32)
        return {"counts": counts}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return {"counts": torch.from_numpy(np.stack([one["counts"] for one in examples]))}

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        save_file({"layer.weight": tensors["body.layer.weight"]}, folder / "model.safetensors")


def file_of(checkpoint: str) -> Path:
    """Return the file of weights: the checkpoint itself, or what is in its folder."""
    path = Path(checkpoint)
    return path / "model.safetensors" if path.is_dir() else path


def counted(text: str) -> np.ndarray:
    """Return ``(26,)`` float32: how often each letter occurs."""
    return np.array([text.count(chr(ord("a") + n)) for n in range(LETTERS)], np.float32)


def encode(checkpoint: str, texts: Sequence[str]) -> list[np.ndarray]:
    """Return one row for each text."""
    layer = Layer()
    layer.load_state_dict(load_file(file_of(checkpoint)))
    with torch.inference_mode():
        counts = torch.from_numpy(np.stack([counted(text) for text in texts]))
        return [row.numpy()[np.newaxis] for row in layer(counts)]
