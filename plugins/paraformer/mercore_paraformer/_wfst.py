"""The best path through a graph that holds a language model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mercore.errors import InputError
from mercore_paraformer._graphs import Graph, graph_of, installed
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.hypotheses import Hypothesis

NEVER: Final = -1e6
"""The score of a label that stands for no token."""
STATES: Final = 100
"""How many states of the graph to keep for each hypothesis of the beam."""
MARGIN: Final = 20.0
"""How far below the best a hypothesis may be, as a natural logarithm."""


class GraphSearch:
    """Finds the best path: the sentence that a beam search finds, see ``BeamSearch``.

    A graph may back off also where it has the longer n-gram: where an n-gram is less likely than
    its back-off, it scores too high. In a model made by interpolation (``mer lm build``) none is.
    """

    def __init__(
        self, options: Decoding, path: Path, tokens: Sequence[str], special: Collection[int]
    ) -> None:
        self._weight, self._bonus = options.lm_weight, options.length_bonus
        self._decoders = installed("kaldi_decoder")
        self._kaldifst = installed("kaldifst")
        self._graph = graph_of(path, tokens)
        self._labels = Labels(self._graph, tokens, special)
        self._special, self._path = special, path
        self._options = self._decoders.FasterDecoderOptions(
            beam=MARGIN / self._weight, max_active=STATES * options.beam
        )

    def __call__(self, logp: NDArray[np.float32]) -> list[Hypothesis]:
        """Return the best reading of log-probabilities ``(positions, vocabulary)``.

        Raises InputError where the graph has no path of so many positions.
        """
        tokens, values = self._labels.read(logp[:-1])
        said = ~np.isin(tokens, list(self._special))
        # The decoder adds the graph's weights as they are: the rest is scaled in their place.
        best = self._best(((values + self._bonus * said) / self._weight).astype(np.float32))
        rows = np.arange(len(best))
        kept = said[rows, best]
        acoustic = float(values[rows, best].sum())
        language = self._language(best)
        length = int(kept.sum())
        score = acoustic + self._weight * language + self._bonus * length
        return [Hypothesis(tuple(tokens[rows, best][kept].tolist()), score, acoustic, language)]
