"""The likeliest token at each position."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from mercore_paraformer.hypotheses import Hypothesis


def greedy(logp: NDArray[np.float32], special: Collection[int]) -> Hypothesis:
    """Return the likeliest token at each position, without the `special` ones.

    `logp` is ``(positions, vocabulary)``, the last position (the end of the sentence, which is
    trained) included. The scores are those of the tokens that stay.
    """
    best = logp.argmax(axis=1)
    kept = ~np.isin(best, list(special))
    acoustic = float(logp.max(axis=1, initial=-np.inf)[kept].sum(dtype=np.float64))
    return Hypothesis(tuple(best[kept].tolist()), acoustic, acoustic)
