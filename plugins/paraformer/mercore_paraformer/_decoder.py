"""From the options to the function that reads Paraformer's scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mercore_paraformer._greedy import greedy
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.hypotheses import Hypothesis

Decode = Callable[[NDArray[np.float32]], list[Hypothesis]]
SPECIAL: Final = frozenset({"<blank>", "<s>", "</s>"})


def decoder_of(options: Decoding, tokens: Sequence[str]) -> Decode:
    """Return the decoder: log-probabilities ``(positions, vocabulary)`` in, the best first out."""
    special = frozenset(place for place, token in enumerate(tokens) if token in SPECIAL)
    return lambda logp: [greedy(logp, special)]
