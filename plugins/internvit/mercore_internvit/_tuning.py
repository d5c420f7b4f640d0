"""Fine-tuning an InternViT on labels: a head on the rows that the encoder gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mercore.components import Inputs
from mercore.decode import sample_times
from mercore.inputs import frames_of
from mercore.media import Video
from mercore.nn import (
    freed,
    frozen_dtype,
    mean_of_samples,
    merged,
    multiplied_in,
    rated,
    recomputing,
)
from mercore.tuning import Example, Group, Rows, Trainee, trained_blocks
from mercore_internvit import InternViT, InternViTTrunk, InternViTTuning
from mercore_internvit._published import Published
from mercore_internvit._tower import POSITIONS, Tower


def trunk_of(encoder: InternViT, tuning: InternViTTuning) -> InternViTTrunk | None:
    """Return what is in front of all that is trained; None where that is nothing but pictures."""
    found = Published(encoder)
    if tuning.train == "head":
        return InternViTTrunk(of=encoder, width=found.width, pictures=tuning.pictures)
    if tuning.train in ("all", "lora"):
        return None
    first = min([*found.layers, *trained_blocks(tuning.train, found.blocks)])
    if not first:
        return None
    front = encoder.model_copy(update={"layers": (first,), "pool": "mean"})
    width = found.tokens * found.layout.sizes.hidden_size
    return InternViTTrunk(of=front, state=first, width=width, pictures=tuning.pictures)


class InternViTTrainee(Trainee):
    """An InternViT, or what is behind its trunk, with a head."""

    module: Classifier

    def __init__(
        self, encoder: InternViT, tuning: InternViTTuning, classes: int, *, weights: bool
    ) -> None:
        self._tuning = tuning
        self._found = Published(encoder)
        trunk = tuning.trunk(encoder)
        head = nn.Linear(self._found.width, classes)
        if trunk is not None and not trunk.state:
            self.module = Classifier(head)
            return
        first = trunk.state if trunk else 0
        tower = _tower(self._found, tuning, first, weights)
        dtype = frozen_dtype(tuning.train, tuning.precision)
        self.module = Classifier(head, Behind(self._found, tower, first, dtype))

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return pictures ``(n, size, size, 3)`` uint8 of a few frames: in training of one."""
        frames = frames_of(inputs)
        shown = sample_times(frames.times, Video(count=self._tuning.pictures))
        if training:
            shown = shown[[random.integers(len(shown))]]
        return {"given": self._found.prepared(frames.pixels[shown])}

    def from_trunk(self, rows: Rows, random: np.random.Generator, *, training: bool) -> Example:
        """Return the rows ``(n, width)`` of the same frames."""
        shown = [int(random.integers(len(rows)))] if training else range(len(rows))
        return {"given": np.stack([rows[row] for row in shown])}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return normalised pictures, or rows, of all samples, and the sample of each."""
        counts = torch.tensor([len(example["given"]) for example in examples])
        given = torch.from_numpy(np.concatenate([example["given"] for example in examples]))
        if given.dtype == torch.uint8:
            given = self._found.normalised(given, torch.float32)
        samples = torch.arange(len(counts)).repeat_interleave(counts)
        return {"given": given, "samples": samples}

    def groups(self) -> list[Group]:
        """Return what is trained: the head, and what LoRA adds, at the whole rate."""
        return rated(self.module, self._tuning)

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the published layout, without the head."""
        tower = "rows.tower."
        own = merged(tensors, self._tuning).items()
        self._found.save(folder, {name.removeprefix(tower): tensor for name, tensor in own})


class Classifier(nn.Module):
    """From pictures, or what a trunk gave of them, to logits, the mean over those of a sample."""

    def __init__(self, head: nn.Linear, rows: Behind | None = None) -> None:
        super().__init__()
        self.head = head
        self.rows = rows
        """What makes the rows; None where they are given."""

    def forward(self, given: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """Return ``{"logits": (samples, classes)}``; `samples` says whose picture each one is."""
        rows = given.float() if self.rows is None else self.rows(given)
        logits = self.head(rows).float()
        if self.training:  # one picture a sample
            return {"logits": logits}
        return {"logits": mean_of_samples(logits, samples)}


class Behind(nn.Module):
    """From the tokens of the hidden state `first`, or where that is 0 from pictures, to rows."""

    def __init__(self, found: Published, tower: Tower, first: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.tower = tower
        self._found, self._first, self._dtype = found, first, dtype

    def forward(self, given: Tensor) -> Tensor:
        """Return ``(n, width)`` of pictures ``(n, 3, size, size)`` or ``(n, tokens * dim)``."""
        with multiplied_in(self._dtype, given.device):
            if self._first:
                hidden = given.float().view(len(given), self._found.tokens, -1)
            else:
                hidden = self.tower.embedded(given)
            return self._found.rows(self.tower, hidden, self._first).float()


def _tower(found: Published, tuning: InternViTTuning, first: int, weights: bool) -> Tower:
    """Return what is behind the hidden state `first`, open to training as the options say."""
    dtype = frozen_dtype(tuning.train, tuning.precision)
    trained = "|".join(map(str, trained_blocks(tuning.train, found.blocks)))
    # Norms and scales too: they are small, and add up with what is float32.
    exact = rf"clip_projector\..*|.*norm.*|.*lambda.*|.*\.layer\.({trained})\..*"
    tower = found.tower(dtype, "cpu", first=first, float32=exact, weights=weights)
    if tuning.recompute:
        recomputing(tower.vision)
    freed(tower, tuning, tower.vision.encoder.layer, attention=("q_proj", "v_proj"))
    if tuning.train == "projector":
        assert tower.clip_projector is not None
        tower.clip_projector.requires_grad_(True)
    if found.resized and not first:  # they are not saved
        tower.get_parameter(POSITIONS).requires_grad_(False)
    return tower
