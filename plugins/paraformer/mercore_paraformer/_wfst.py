"""The best path through a graph that holds a language model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mercore.errors import InputError
from mercore_paraformer._beam import SILENT
from mercore_paraformer._graphs import Graph, graph_of, kaldi
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
        self._decoders = kaldi("kaldi_decoder")
        self._kaldifst = kaldi("kaldifst")
        self._graph = graph_of(path, tokens)
        self._labels = Labels(self._graph, tokens, special)
        self._path = path
        self._options = self._decoders.FasterDecoderOptions(
            beam=MARGIN / self._weight, max_active=STATES * options.beam
        )

    def __call__(self, logp: NDArray[np.float32]) -> list[Hypothesis]:
        """Return the best reading of log-probabilities ``(positions, vocabulary)``.

        Raises InputError where the graph has no path of so many positions.
        """
        tokens, values = self._labels.of(logp[:-1])
        scores = (values + self._bonus * (tokens != SILENT)) / self._weight
        labels, language = self._best(scores.astype(np.float32))
        rows = np.arange(len(labels))
        said = tokens[rows, labels]
        said = said[said != SILENT]
        acoustic = float(values[rows, labels].sum(dtype=np.float64))
        score = acoustic + self._weight * language + self._bonus * len(said)
        return [Hypothesis(tuple(said.tolist()), score, acoustic, language)]

    def _best(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
        """Return the columns of the best path, and the log-probability of the graph.

        The decoder adds the graph's weights as they are: the scores are scaled in their place.
        """
        decoder = self._decoders.FasterDecoder(self._graph.fst, self._options)
        decoder.decode(self._decoders.DecodableCtc(scores))
        found, path = decoder.get_best_path()
        if not (found and decoder.reached_final()):
            raise InputError(
                f"the graph of {self._path} has no path of {len(scores)} tokens within the beam; "
                "raise beam, or use decode: beam"
            )
        _, labels, _, weight = self._kaldifst.get_linear_symbol_sequence(path)
        return np.array(labels, dtype=np.int64) - 1, -float(weight.value1)


class Labels:
    """Scores the input labels of a graph by the scores of tokens."""

    def __init__(self, graph: Graph, tokens: Sequence[str], special: Collection[int]) -> None:
        self._special = sorted(special)
        places = {token: place for place, token in enumerate(tokens)}
        self._known = np.array([places[token] for token in graph.labels], dtype=np.int64)
        self._columns = np.array([*graph.labels.values()], dtype=np.int64) - 1
        self._others = np.setdiff1d(np.arange(len(tokens)), [*self._known, *self._special])
        self._unknown, self._silent = graph.unknown, graph.silent
        self._size = max(*graph.labels.values(), graph.unknown or 0, graph.silent or 0)

    def of(self, logp: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return what each label stands for at each position, and its log-probability.

        Both are ``(positions, labels)``; the first label is 1. The label of unknown words stands
        for the likeliest token that the graph does not know.
        """
        shape = len(logp), self._size
        tokens, values = np.full(shape, SILENT), np.full(shape, NEVER, np.float32)
        tokens[:, self._columns] = self._known
        values[:, self._columns] = logp[:, self._known]
        tokens[np.isin(tokens, self._special)] = SILENT
        if self._unknown and len(self._others):
            best = self._others[logp[:, self._others].argmax(axis=1)]
            tokens[:, self._unknown - 1] = best
            values[:, self._unknown - 1] = logp[np.arange(len(logp)), best]
        if self._silent and self._special:
            values[:, self._silent - 1] = logp[:, self._special].max(axis=1)
        return tokens, values
