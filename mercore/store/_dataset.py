"""Stored samples as a dataset for PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from mercore.store._collection import Collection

Item = torch.Tensor | tuple[torch.Tensor, int]


class SampleDataset(Dataset[Item]):
    """Samples in the order of `ids`: ``(rows, *shape)`` each, or ``(dim,)`` if `vectors`.

    With labels an item is a pair of tensor and label. A DataLoader reads a batch in one go, and
    its workers read the files themselves.
    """

    def __init__(
        self,
        collection: Collection,
        ids: Sequence[str],
        labels: Sequence[int] | None,
        *,
        vectors: bool,
    ) -> None:
        self._collection = collection
        self._ids = list(ids)
        self._labels = None if labels is None else [int(label) for label in labels]
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        ids = [self._ids[index] for index in indices]
        read = self._collection.matrix if self._vectors else self._collection.sequences
        tensors = [torch.from_numpy(np.asarray(values)) for values in read(ids)]
        if self._labels is None:
            return list(tensors)
        labels = [self._labels[index] for index in indices]
        return list(zip(tensors, labels, strict=True))
