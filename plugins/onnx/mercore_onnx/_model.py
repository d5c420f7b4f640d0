"""A graph run on media, and its output made into rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mercore.checkpoints import locate
from mercore.components import Inputs, Noted
from mercore.errors import InputError, RegistryError
from mercore.media import FloatArray
from mercore_onnx import OnnxEncoder
from mercore_onnx._feeds import AudioFeed, Feed, FramesFeed, TextFeed
from mercore_onnx._files import USUAL, beside, graph_in, outside
from mercore_onnx._graph import Array, Graph

_PASS: Final = 32
"""Pictures run at once: more take memory and are hardly faster."""


class OnnxFile:
    """The function ``OnnxEncoder.load`` returns."""

    def __init__(self, options: OnnxEncoder, device: str) -> None:
        path = _located(options)
        file = graph_in(path, options.file)
        outside(file)  # says which are missing
        self._options = options
        self._graph = Graph(file, device, options.output)
        self._feed = _feed(options, self._graph, path)

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        return [self._encoded(sample) for sample in batch]

    def _encoded(self, sample: Inputs) -> FloatArray | Noted[FloatArray]:
        fed, record = self._feed(sample)
        items = len(next(iter(fed.values())))
        step = self._feed.at_once or _PASS
        parts = [fed] if not self._feed.batched else _parts(fed, items, step)
        matrix = np.concatenate([self._rows(self._graph.run(part)) for part in parts])
        if not len(matrix):
            raise InputError("the graph gives no rows for this input; is it too short?")
        return Noted(matrix, record) if record else matrix

    def _rows(self, output: FloatArray) -> FloatArray:
        """Return ``(rows, dim)`` of the output of a run, an item after the other."""
        if not self._feed.batched:
            output = output[np.newaxis]
        axis = self._options.dim_axis
        # The batch is axis 0 in the graph as well, unless it has none.
        place = axis if axis < 0 or self._feed.batched else axis + 1
        if output.ndim < 2 or not -output.ndim < place < output.ndim or place == 0:
            raise RegistryError(
                f"onnx: option 'dim_axis' is {axis}, but the output is {output.shape}, of "
                "which the first axis is the batch; name another"
            )
        moved = np.moveaxis(output, place, -1)  # (items, ..., dim)
        rows = moved.reshape(len(output), -1, moved.shape[-1])
        if self._options.pool == "mean" and rows.shape[1]:
            rows = rows.mean(1, keepdims=True)
        elif self._options.pool == "first":
            rows = rows[:, :1]
        return np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))


def _located(options: OnnxEncoder) -> Path:
    names = (options.file,) if options.file else USUAL
    useful = [f"{name}{end}" for name in names for end in ("_data*", ".data*")]
    told = [(options.text.tokenizer,)] if options.text else []
    path = Path(options.checkpoint).expanduser()
    if path.exists():
        return path
    return locate(options.checkpoint, wanted=[names, *told], useful=useful)


def _feed(options: OnnxEncoder, graph: Graph, path: Path) -> Feed:
    if options.audio:
        return AudioFeed(options.audio, graph)
    if options.frames:
        return FramesFeed(options.frames, graph)
    assert options.text
    return TextFeed(options.text, graph, beside(path, graph.file, options.text.tokenizer))


def _parts(fed: Mapping[str, Array], items: int, step: int) -> list[Mapping[str, Array]]:
    return [
        {name: array[start : start + step] for name, array in fed.items()}
        for start in range(0, items, step)
    ]
