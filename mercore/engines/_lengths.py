"""How long samples are, before they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from mercore.extraction import Extraction
from mercore.manifest import Sample
from mercore.pipeline import Node
from mercore.reader import Upstream


def order_of(extraction: Extraction, samples: Sequence[Sample]) -> list[float]:
    """Return how long each sample is, or what puts them in another order than other runs have."""
    if extraction.others > 1:  # they are shuffled
        return [1.0] * len(samples)
    lengths = lengths_of(extraction.node, extraction.upstream, samples)
    longest = max(lengths, default=0.0)
    return [longest - length for length in lengths] if extraction.others else lengths


def lengths_of(
    node: Node, upstream: Mapping[str, Upstream], samples: Sequence[Sample]
) -> list[float]:
    """Return how long each sample is for the node, about; the mean is 1 for each of its inputs.

    A stream is as long as its rows, a file as its bytes, words as their letters.
    """
    total = np.zeros(len(samples))
    for stream in node.inputs.values():
        read = upstream.get(stream)
        found = np.array([_rows(read, s) if read else _size(s, stream) for s in samples], float)
        total += found / (found.mean() or 1.0) if len(found) else 0.0
    return total.tolist()


def _rows(stream: Upstream, sample: Sample) -> int:
    entry = stream.entries.get(sample.id)
    return entry.length if entry else 0


def _size(sample: Sample, stream: str) -> int:
    path = sample.file(stream)
    if path is None:
        return len(sample.words(stream) or "")
    try:
        return os.stat(path).st_size
    except OSError:  # said when it is read
        return 0
