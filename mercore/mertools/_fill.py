"""One feature of MERTools into the store, in a few big segments."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mercore.errors import InputError, RunError
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.mertools._content import Content, digest
from mercore.mertools._folders import Folder, Source, each
from mercore.pipeline import Node, Pipeline
from mercore.sources import Sources
from mercore.status import failures
from mercore.store import Collection, Row, Store
from mercore.target import Target
from mercore.watch import Watch

_SEGMENT = 64 * 2**20  # bytes of one commit, about


@dataclass(frozen=True)
class ImportedFeature:
    """What importing one feature came to."""

    name: str
    source: str
    """MERTools' name of it."""
    fingerprint: str
    dim: int
    frames: bool
    """Whether its sequences were imported too."""
    samples: int
    new: int
    """Those that the store did not have."""
    failed: Mapping[str, str]
    """Sample to the reason why it has no values."""


@dataclass(frozen=True)
class Filling:
    """What the features of one import share."""

    pipeline: Pipeline
    samples: Sequence[Sample]
    store: Store
    threads: int
    watch: Watch

    def fill(self, source: Source, content: Content) -> ImportedFeature:
        """Commit what the store lacks of one feature; return what that came to.

        Raises RunError when a file is no longer what `content` says.
        """
        began = time.perf_counter()
        node = self.pipeline.features[source.name]
        target = Target(node, self.pipeline, self.store)
        self.watch.start(source.name, len(self.samples) * len(source.folders))
        new: set[str] = set()
        failed: dict[str, str] = {}
        for folder in source.folders:
            collections = [self._collection(node, group) for group in _groups(folder, source)]
            new |= self._from(folder, collections, content, source.name)
            entries = collections[0].entries()
            failed |= failures({sample.id: entries[sample.id] for sample in self.samples})
        if new:  # not compacted: a few big segments are read nearly as fast, and written once
            target.note({"samples": len(new), "wall": time.perf_counter() - began})
        target.mark(self.store)
        return ImportedFeature(
            source.name, source.source, node.fingerprint, content.width, source.frames,
            len(self.samples), len(new), failed,
        )  # fmt: skip

    def _collection(self, node: Node, group: str) -> Collection:
        found = self.store.collection(group, node.name, node.fingerprint)
        assert found is not None  # the target has made it
        return found

    def _from(
        self, folder: Folder, collections: Sequence[Collection], content: Content, name: str
    ) -> set[str]:
        """Commit the samples that a collection lacks; return them."""
        stored = [collection.entries() for collection in collections]
        todo = [s for s in self.samples if not all(s.id in entries for entries in stored)]
        self.watch.advance(name, len(self.samples) - len(todo), 0)
        for batch in _batches(folder, todo):
            rows = self._rows(folder, batch, content)
            for collection in collections:
                pooled = collection.group == "features"
                collection.commit([_pooled(row) if pooled else row for row in rows])
            self.watch.advance(name, len(rows), sum(row.failed is not None for row in rows))
        return {sample.id for sample in todo}

    def _rows(self, folder: Folder, samples: Sequence[Sample], content: Content) -> list[Row]:
        """Return the samples with ``(frames, dim)`` values, or why they have none."""
        seen, kept, sources = content.seen[folder.path], content.values[folder.path], Sources()
        there = [s.id for s in samples if isinstance(seen.get(s.id), bytes) and s.id not in kept]
        again = dict(each(partial(_unchanged, folder, seen), there, self.threads))
        rows = []
        for sample in samples:
            source = sources.identity(sample, ["id"])
            matrix = kept.get(sample.id, again.get(sample.id))
            if isinstance(matrix, np.ndarray):
                rows.append(Row(sample.id, matrix, source))
                continue
            lost = seen.get(sample.id, f"{folder.path.name}: no file of this sample")
            rows.append(Row(sample.id, None, source, failed=str(lost)))
        return rows


def _groups(folder: Folder, source: Source) -> list[str]:
    """Return the groups of the store that a folder fills: both, where it is alone a ``-FRA``."""
    if not folder.sequences:
        return ["features"]
    return ["features", "frames"] if len(source.folders) == 1 else ["frames"]


def _batches(folder: Folder, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        if sample.id in folder.names:
            size += os.path.getsize(f"{folder.path}/{sample.id}.npy")
        if size >= _SEGMENT:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _unchanged(folder: Folder, seen: Mapping[str, bytes | InputError], name: str) -> FloatArray:
    """Return the values of a file, which are those that were seen before."""
    try:
        values = folder.read(name)
    except InputError as error:
        raise RunError(f"{name}: {error}; it was read before; import again") from error
    if digest(values) != seen[name]:
        raise RunError(f"{folder.path / name}.npy: changed meanwhile; import again")
    return values


def _pooled(row: Row) -> Row:
    if row.values is None or len(row.values) == 1:
        return row
    mean = row.values.mean(axis=0, keepdims=True, dtype=np.float32)
    return Row(row.id, mean, row.source)
