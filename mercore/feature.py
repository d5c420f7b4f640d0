"""One feature of a project's samples: its matrix, its sequences, its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mercore.components import Encoder, IntArray
from mercore.errors import RunError
from mercore.media import FloatArray
from mercore.pipeline import Node
from mercore.rows import Row, SampleRows
from mercore.selection import Missing, Selection, check_missing
from mercore.store import Store
from mercore.stored import Stored

Sequences = list[NDArray[np.generic]]
_CURE = "give missing='nan' for NaN in their place, or missing='drop' to leave them out"


@dataclass(frozen=True, eq=False, repr=False)
class SampleFeature:
    """A feature of some samples, in the order of the manifest.

    ``len``, ``ids``, ``labels`` and the rows of ``matrix()`` go together. As a sequence it gives a
    dict a sample: see ``mercore.rows``. It is as it was when it was asked for: ask the project for
    it again after ``extract``.
    """

    name: str
    samples: Selection
    dim: int
    vectors: Stored
    frames: Stored | None
    """The sequences, where the registry has ``frames: true`` for the feature."""

    @classmethod
    def of(cls, node: Node, store: Store, samples: Selection) -> SampleFeature:
        """Return the feature of a node; raises RunError where nothing of it is extracted."""
        assert isinstance(node.component, Encoder)
        vectors = Stored.of(node, "features", store, samples)
        frames = Stored.of(node, "frames", store, samples) if node.frames else None
        dim = vectors.collection.dim or node.component.dim or 0
        return cls(node.name, samples, dim, vectors, frames)

    def __repr__(self) -> str:
        lost = f", missing={len(self.missing)}" if self.missing else ""
        return f"{type(self).__name__}({self.name!r}, samples={len(self)}, dim={self.dim}{lost})"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows())

    @overload
    def __getitem__(self, key: str | int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> SampleFeature: ...
    def __getitem__(self, key: str | int | slice) -> Row | SampleFeature:
        if isinstance(key, slice):
            return self.of_samples(self.samples.at(range(len(self))[key]))
        return self.rows()[key]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Return several rows, read at once: what a torch DataLoader asks for."""
        return self.rows().__getitems__(indices)

    @property
    def ids(self) -> list[str]:
        """The ids of the samples."""
        return self.samples.ids

    @property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where there is no label."""
        return self.samples.labels

    @property
    def fingerprint(self) -> str:
        """The hash of all that can change the numbers."""
        return self.vectors.collection.fingerprint

    @property
    def missing(self) -> Mapping[str, str]:
        """Id to reason for the samples that have no values."""
        return self.vectors.missing(self.samples)

    def present(self) -> SampleFeature:
        """Return the feature of those samples alone that have values."""
        return self.of_samples(self.samples.without(self.missing))

    def select(
        self,
        *,
        split: str | None = None,
        label: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> SampleFeature:
        """Return the feature of some samples; see ``Selection.select``."""
        return self.of_samples(self.samples.select(split=split, label=label, ids=ids))

    def of_samples(self, samples: Selection) -> SampleFeature:
        """Return the feature of other samples of the same manifest."""
        return replace(self, samples=samples)

    def rows(self, *, frames: bool = False) -> SampleRows:
        """Return the samples as dicts with the vector of each, or with its frames."""
        return SampleRows(self.samples, (self,), frames=frames)

    def vector(self, id: str) -> FloatArray:
        """Return the ``(dim,)`` float32 vector of one sample; raises RunError without one."""
        sample = self.samples.ids[self.samples.row(id)]
        self.vectors.require([sample])
        vector: FloatArray = self.vectors.collection.matrix([sample])[0]
        return vector

    def sequence(self, id: str) -> NDArray[np.generic]:
        """Return the ``(frames, dim)`` sequence of one sample, as it is stored (float16)."""
        sample, stored = self.samples.ids[self.samples.row(id)], self._sequences
        stored.require([sample])
        return stored.collection.sequence(sample)

    def matrix(self, missing: Missing = "raise") -> FloatArray:
        """Return ``(samples, dim)`` float32.

        Samples without values are a RunError, rows of NaN, or left out ("drop"): the rows are
        then those of ``present()``.
        """
        check_missing(missing)
        if missing == "raise":
            self.vectors.require(self.ids, _CURE)
        lacking = self.missing
        if not lacking:
            return self.vectors.collection.matrix(self.ids)
        there = [id for id in self.ids if id not in lacking]
        values = self.vectors.collection.matrix(there)
        if missing == "drop":
            return values
        table = np.full((len(self), self.dim), np.nan, np.float32)
        table[[id not in lacking for id in self.ids]] = values.reshape(len(there), self.dim)
        return table

    def sequences(self, missing: Missing = "raise", dtype: DTypeLike | None = None) -> Sequences:
        """Return a ``(frames, dim)`` array a sample, as stored (float16) unless `dtype` is given.

        Samples without values are a RunError, one frame of NaN, or left out. All of them are read
        at once; go through slices of the feature where that is too much.
        """
        check_missing(missing)
        stored = self._sequences
        if missing == "raise":
            stored.require(self.ids, _CURE)
        lacking = stored.missing(self.samples)
        there = [id for id in self.ids if id not in lacking]
        found = stored.collection.sequences(there, dtype)
        if missing == "drop" or not lacking:
            return found
        gap = np.full((1, self.dim), np.nan, dtype or np.float16)
        values = iter(found)
        return [gap.copy() if id in lacking else next(values) for id in self.ids]

    def parts(self, *, frames: bool) -> list[Stored]:
        """Return what is read of the store: the vectors, and with `frames` the sequences too."""
        return [self.vectors, self._sequences] if frames else [self.vectors]

    @property
    def _sequences(self) -> Stored:
        if self.frames is None:
            raise RunError(
                f"feature {self.name!r} is kept as one vector a sample; set 'frames: true' for it "
                "in the registry and extract it"
            )
        return self.frames
