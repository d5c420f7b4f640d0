"""A feature: what the store holds of one, under one fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike
from pydantic import JsonValue

from mercore.errors import StoreError
from mercore.media import FloatArray
from mercore.store._collection import Collection
from mercore.store._parts import Array

if TYPE_CHECKING:
    from mercore.store._dataset import SampleDataset


class Feature:
    """The collections of one feature: pooled to one row a sample, and as sequences."""

    def __init__(self, vectors: Collection | None, frames: Collection | None) -> None:
        self._vectors = vectors
        self._frames = frames

    @property
    def ids(self) -> list[str]:
        """The samples that have values, in the order of first commit."""
        return [id for id, entry in self._any.entries().items() if entry.failed is None]

    @property
    def header(self) -> Mapping[str, JsonValue]:
        """What was noted at its creation."""
        return self._any.header

    @property
    def fingerprint(self) -> str:
        """The hash of all that can change the numbers."""
        return self._any.fingerprint

    def matrix(self, ids: Sequence[str]) -> FloatArray:
        """Return ``(n, dim)`` float32, in the order of `ids`."""
        return self._pooled.matrix(ids)

    def sequences(self, ids: Sequence[str], dtype: DTypeLike | None = None) -> list[Array]:
        """Return one ``(frames, dim)`` array a sample, in the stored dtype unless one is given."""
        return self._sequences.sequences(ids, dtype)

    def dataset(
        self, ids: Sequence[str], labels: Sequence[int] | None = None, *, frames: bool = False
    ) -> SampleDataset:
        """Return a torch dataset of ``(dim,)`` tensors, or of ``(frames, dim)`` ones."""
        return (self._sequences if frames else self._pooled).dataset(ids, labels)

    @property
    def _any(self) -> Collection:
        collection = self._vectors or self._frames
        assert collection is not None  # a feature is made of at least one
        return collection

    @property
    def _pooled(self) -> Collection:
        if self._vectors is None:
            raise StoreError(f"{self._any!r}: kept as sequences only; use sequences()")
        return self._vectors

    @property
    def _sequences(self) -> Collection:
        if self._frames is None:
            cure = "set `frames: true` for the feature and run mer extract"
            raise StoreError(f"{self._any!r}: its sequences were not kept; {cure}")
        return self._frames
