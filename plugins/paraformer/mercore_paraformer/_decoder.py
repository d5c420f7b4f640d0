"""From the options to the function that reads Paraformer's scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mercore_paraformer._beam import BeamSearch
from mercore_paraformer._greedy import greedy
from mercore_paraformer._language import NoLanguage, language_model
from mercore_paraformer._spelling import Spelling
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.hypotheses import SPECIAL, Hypothesis

Decode = Callable[[NDArray[np.float32]], list[Hypothesis]]


def decoder_of(options: Decoding, tokens: Sequence[str]) -> Decode:
    """Return the decoder: log-probabilities ``(positions, vocabulary)`` in, the best first out.

    The last position is the end of the sentence, which is trained. Greedy reads it like the others;
    beam and WFST drop it, and the language model scores the end. Raises CheckpointError for a
    language model that cannot be read, and RunError for a package that is not installed.
    """
    special = frozenset(place for place, token in enumerate(tokens) if token in SPECIAL)
    if options.decode == "greedy":
        return lambda logp: [greedy(logp, special)]
    path = Path(options.lm).expanduser() if options.lm else None
    if options.decode == "wfst" and path:
        from mercore_paraformer._wfst import GraphSearch

        return GraphSearch(options, path, tokens, special)
    model = language_model(path) if path else NoLanguage()
    return BeamSearch(options, model, Spelling(tokens, model), special)
