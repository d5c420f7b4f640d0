"""What a plugin gives for training: a network and what goes in and out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mercore.components import Inputs

if TYPE_CHECKING:
    import torch

Example = Mapping[str, NDArray[Any]]
"""What of one sample goes into a batch."""


class Rows(Protocol):
    """The rows that a trunk gave of one sample, ``(dim,)`` each; float16 in half precision."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate."""

    parameters: Sequence[torch.nn.Parameter]
    rate: float = 1.0
    """Times the learning rate of the options."""
    decays: bool = True
    """Whether weight decay holds for them."""


class Trainee(ABC):
    """An encoder's network in training.

    ``module(**batch)`` returns ``{"logits": (samples, classes)}``, of which the core takes the
    `loss`, or ``{"loss": scalar}`` where it is computed inside; an evaluation on labels needs the
    logits in both.
    """

    module: torch.nn.Module

    @abstractmethod
    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return what of one sample goes into a batch; it may run in another process.

        Everything that is drawn comes from `random`, which a sample of an epoch always gets alike;
        only in `training` is the sample augmented. Raises InputError for one that cannot be used.
        """

    def from_trunk(self, rows: Rows, random: np.random.Generator, *, training: bool) -> Example:
        """Return the same of what the tuning's `trunk` gave; only rows that are used are read."""
        raise NotImplementedError(f"{type(self).__name__} has a trunk, and no from_trunk")

    @abstractmethod
    def batch(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Return the arguments of the module for the examples, on the CPU.

        With ``shares``, ``(samples,)`` in [0, 1], the core mixes the classes as the batch mixed
        the examples: one is itself by its share, and by the rest the one as far from the end as it
        is from the beginning (mixup, Zhang et al. 2018, arXiv:1710.09412).

        With ``items``, ``(samples,)`` int64, the loss is the mean over so many items of each
        sample, such as its tokens, and every item of a step counts alike; without, every sample.
        """

    def groups(self) -> list[Group]:
        """Return the parameters to train: matrices with weight decay, the rest without."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        decays, others = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() < 2]
        return [Group(decays), Group(others, decays=False)]

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return the loss of float32 logits: the cross entropy.

        `labels` and `options` are those of ``torch.nn.functional.cross_entropy``.
        """
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, **options)

    @abstractmethod
    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write `tensors`, the module's whole state dict, as the encoder's `load` reads it.

        `folder` is there and empty.
        """
