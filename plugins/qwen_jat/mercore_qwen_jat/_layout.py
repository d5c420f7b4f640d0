"""What the two published layouts have in common."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from transformers import Qwen2AudioEncoderConfig, Qwen2Config

from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule


class Layout(BaseModel, ABC):
    """A checkpoint's sizes by their published names; how its tokens and weights are named."""

    model_config = ConfigDict(frozen=True)

    tokenizer: ClassVar[str]
    """The file of its tokenizer."""
    markers: ClassVar[bool]
    """Whether the ends of the audio span are weights of their own, not tokens."""
    span: ClassVar[tuple[str, str, str]]
    """The tokens before the audio, in its place, and behind it."""
    heading: ClassVar[str]
    """What the chat template puts before the audio span."""
    beyond: ClassVar[int]
    """How many spectrogram frames behind the clip the convolutions see."""
    decoder_blocks: ClassVar[str]
    encoder_blocks: ClassVar[str]
    """Before the number of a layer, as regular expressions."""
    final_norm: ClassVar[str]
    output: ClassVar[str]
    """The weights of the output layer, which features do without."""

    @property
    @abstractmethod
    def audio(self) -> Qwen2AudioEncoderConfig:
        """The audio encoder."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many layers the language model has."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """How many tokens the language model knows."""

    @abstractmethod
    def text(self, layers: int) -> Qwen2Config:
        """Return the sizes of the language model, cut to its first layers."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """How many tokens the language model reads."""

    @property
    @abstractmethod
    def placeholder(self) -> tuple[str, int]:
        """The token, and its number, by which config.json and tokenizer are compared."""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return how many frames behind the second convolution belong to a clip."""

    @abstractmethod
    def rules(self) -> list[Rule]:
        """Return where the weights go in a `JointModel` that has all layers."""

    def cut(self, layers: int) -> list[Rule]:
        """Return the rules for a model of the first `layers` of the language model."""
        if layers == self.depth:
            return self.rules()
        later = "|".join(map(str, range(layers, self.depth)))
        unused = Rule(rf"{self.decoder_blocks}\.({later})\..*", None)
        return [unused, Rule(self.final_norm, None), *self.rules()]

    def check(self, checkpoint: Checkpoint) -> None:
        """Raise CheckpointError unless the weights have the layers that config.json says."""
        stacks = {
            "language model": (self.decoder_blocks, self.depth),
            "audio encoder": (self.encoder_blocks, self.audio.encoder_layers),
        }
        for who, (stack, depth) in stacks.items():
            found = _numbers(checkpoint, stack)
            if found != set(range(depth)):
                which = f"{len(found)} layers, {min(found)} to {max(found)}," if found else "none"
                raise CheckpointError(
                    f"{checkpoint.path}: holds {which} of the {who}, expected {depth}, 0 to "
                    f"{depth - 1}; is config.json that of another checkpoint, or was a file cut?"
                )


def _numbers(names: Iterable[str], stack: str) -> set[int]:
    """Return the numbers of the layers that have weights."""
    block = re.compile(rf"{stack}\.(\d+)\..*")
    return {int(found[1]) for name in names if (found := block.fullmatch(name))}
