"""Samples as dicts with their features: what a training loop goes through.

::

    rows = project.features.rows("speech", "words").select(split="train")
    rows[0]          # {"id": "clip1", "split": "train", "label": 2, "speech": ..., "words": ...}
    rows["clip1"]    # the same
    DataLoader(rows, batch_size=32, shuffle=True)    # of torch: a map-style dataset
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

from mercore.selection import Selection

if TYPE_CHECKING:
    from mercore.feature import SampleFeature

Row = dict[str, Any]
"""``id``, ``split``, ``label`` (the index of the class, -1 for none), and an array a feature:
``(dim,)`` float32, or ``(frames, dim)`` as stored."""
_AHEAD = 256  # samples read at once by an iteration


@dataclass(frozen=True, eq=False, repr=False)
class SampleRows:
    """Samples with one feature or several, read from the store when they are asked for.

    A sample that lacks one of the features is a RunError when it is read; leave such samples out
    with ``project.features.rows(..., missing="drop")``.
    """

    samples: Selection
    features: tuple[SampleFeature, ...]
    frames: bool = False
    """Whether the arrays are sequences."""

    def __repr__(self) -> str:
        names = [feature.name for feature in self.features]
        return f"{type(self).__name__}({names}, samples={len(self)}, frames={self.frames})"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _AHEAD):
            yield from self.__getitems__(range(start, min(start + _AHEAD, len(self))))

    @overload
    def __getitem__(self, key: str | int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> SampleRows: ...
    def __getitem__(self, key: str | int | slice) -> Row | SampleRows:
        if isinstance(key, slice):
            return replace(self, samples=self.samples.at(range(len(self))[key]))
        return self.__getitems__([self.samples.row(key)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Return several rows, read at once: what a torch DataLoader asks for."""
        chosen = self.samples.at(indices)
        labels = chosen.labels.tolist()
        rows: list[Row] = [
            {"id": sample.id, "split": sample.split, "label": label}
            for sample, label in zip(chosen.samples, labels, strict=True)
        ]
        for feature in self.features:
            part = feature.of_samples(chosen)
            arrays = part.sequences() if self.frames else part.matrix()
            for row, values in zip(rows, arrays, strict=True):
                row[feature.name] = values
        return rows

    def select(
        self,
        *,
        split: str | None = None,
        label: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> SampleRows:
        """Return the rows of some samples; see ``Selection.select``."""
        return replace(self, samples=self.samples.select(split=split, label=label, ids=ids))
