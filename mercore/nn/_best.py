"""The weights of the best epoch so far."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from mercore.nn._network import Tensors


class Best:
    """The weights of the best epoch of one member so far."""

    def __init__(
        self,
        weights: Tensors,
        score: Callable[[int], tuple[float, float]],
        patience: int | None,
    ) -> None:
        self.weights, self.score, self.patience = weights, score, patience
        self.kept: dict[str, Tensor] = {}
        self.best, self.stale, self.done = (-math.inf, -math.inf), 0, False

    def look(self, epoch: int) -> None:
        """Keep the weights if they are better than before; be done where patience has run out."""
        if self.done:
            return
        score = self.score(epoch)
        self.stale += 1
        if score > self.best:
            self.best, self.stale = score, 0
            self.kept = {name: w[0].detach().clone() for name, w in self.weights.items()}
        self.done = self.stale == self.patience
