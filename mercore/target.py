"""Where the results of one stream or feature go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore.components import Encoder, Noted, Preprocessor
from mercore.errors import InputError
from mercore.fingerprints import describe
from mercore.manifest import Sample
from mercore.media import Video
from mercore.pipeline import Node, Pipeline
from mercore.reader import AbsentError, Item, Upstream, UpstreamError
from mercore.sources import Sources
from mercore.status import failures
from mercore.store import Collection, Entry, Row, RowType, Store
from mercore.streams import medium_name, pack


class Target:
    """The collections of the store that one node fills: one, or two when frames are kept too."""

    def __init__(self, node: Node, pipeline: Pipeline, store: Store) -> None:
        self._node = node
        self._dim = node.component.dim if isinstance(node.component, Encoder) else None
        self._collections: dict[str, Collection] = {
            group: store.create(group, node.name, node.fingerprint, header(node, pipeline))
            for group in node.groups
        }
        self._kinds = {group: part.rows for group, part in self._collections.items() if part.rows}

    def todo(
        self,
        samples: Sequence[Sample],
        upstream: Iterable[Upstream],
        sources: Sources,
        retry_failed: bool,
    ) -> list[Sample]:
        """Return the samples that are missing, whose files changed, or that are to be retried."""
        stored = [collection.entries() for collection in self._collections.values()]
        streams = list(upstream)

        def there(sample: Sample) -> bool:
            return all(stream.has(sample) for stream in streams)

        return pending(self._node, stored, samples, there, sources, retry_failed)

    def settled(self) -> bool:
        """Return whether it is known what the rows are like, so that writers cannot differ."""
        component = self._node.component
        if isinstance(component, Preprocessor) and not isinstance(component.output, Video):
            return True
        if self._dim is not None:
            return True
        for collection in self._collections.values():
            collection.entries()  # what others have committed since
        return all(collection.rows for collection in self._collections.values())

    def failed(self, samples: Sequence[Sample]) -> dict[str, str]:
        """Return sample id to reason for the samples that failed."""
        return failures(self._found(samples))

    def absent(self, samples: Sequence[Sample]) -> int:
        """Return how many samples have no such medium in the manifest."""
        return sum(bool(entry.record.get("absent")) for entry in self._found(samples).values())

    def _found(self, samples: Sequence[Sample]) -> dict[str, Entry]:
        entries = next(iter(self._collections.values())).entries()
        return {sample.id: entries[sample.id] for sample in samples if sample.id in entries}

    def commit(self, items: Sequence[Item], outputs: Sequence[object]) -> dict[str, str]:
        """Commit one output, or the exception in its place, a sample; return why which failed."""
        rows: dict[str, list[Row]] = {group: [] for group in self._collections}
        for item, output in zip(items, outputs, strict=True):
            for group, row in self._rows(item, output).items():
                rows[group].append(row)
        for group, collection in self._collections.items():
            collection.commit(rows[group])
        return {
            row.id: row.failed
            for row in next(iter(rows.values()))
            if row.failed is not None and "absent" not in row.record
        }

    def busy(self) -> AbstractContextManager[int]:
        """Give how many other runs fill the collections meanwhile, and be counted by them."""
        return next(iter(self._collections.values())).busy()

    def note(self, seconds: Mapping[str, JsonValue]) -> None:
        """Note where the time went."""
        for collection in self._collections.values():
            collection.note({"time": datetime.now(UTC).isoformat(), **seconds})

    def tidy(self) -> None:
        """Compact what has grown enough to be worth writing it anew."""
        for collection in self._collections.values():
            collection.tidy()

    def mark(self, store: Store) -> None:
        """Make this the fingerprint that ``store[name]`` means."""
        for collection in self._collections.values():
            rivals = [c for c in store.collections(collection.group) if c.name == collection.name]
            last = max(rival.marked() for rival in rivals)
            meant = collection.marked() == last and last
            if len(rivals) > 1 and not meant:
                collection.mark(last)

    def _rows(self, item: Item, output: object) -> dict[str, Row]:
        try:
            if isinstance(output, Exception):
                raise output
            value = output.value if isinstance(output, Noted) else output
            record = dict(output.record) if isinstance(output, Noted) else {}
            json.dumps(record, allow_nan=False)  # a record that is no JSON fails its sample
            rows = {
                group: Row(item.sample.id, self._alike(group, array), item.source, record | more)
                for group, (array, more) in self._arrays(value).items()
            }
            if self._node.frames and "frames" not in rows:
                rows["frames"] = _failure(item, InputError("a value does not fit float16"))
            return rows
        except Exception as error:  # whatever went wrong with a sample is recorded with it
            return dict.fromkeys(self._collections, _failure(item, error))

    def _alike(self, group: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array; raises InputError when its rows are not like those of the others."""
        kind = RowType.of(array, self._who)
        expected = self._kinds.setdefault(group, kind)
        if kind != expected:
            raise InputError(f"{self._who} returned {kind}, the samples before have {expected}")
        return array

    def _arrays(self, value: object) -> dict[str, tuple[NDArray[Any], dict[str, JsonValue]]]:
        component = self._node.component
        if isinstance(component, Preprocessor):
            return {"streams": pack(value, component.output)}
        matrix = self._checked(value)
        if self._node.trunk:
            return {"trunks": (self._exact(matrix), {})}
        pooled = matrix.mean(axis=0, keepdims=True, dtype=np.float32)
        arrays: dict[str, tuple[NDArray[Any], dict[str, JsonValue]]] = {"features": (pooled, {})}
        if self._node.frames and np.abs(matrix).max() <= np.finfo(np.float16).max:
            arrays["frames"] = (matrix.astype(np.float16), {})
        return arrays

    def _exact(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Return the rows as they were computed; those of half precision as float16."""
        if self._node.dtype == "float32":
            return matrix
        if np.abs(matrix).max() > np.finfo(np.float16).max:
            raise InputError("a value does not fit float16; give the feature `dtype: float32`")
        return matrix.astype(np.float16)

    def _checked(self, value: object) -> NDArray[np.float32]:
        """Return the encoder's matrix; raises InputError when it is not one, or not finite."""
        if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim != 2:
            found = (
                f"{value.dtype} {value.shape}"
                if isinstance(value, np.ndarray)
                else type(value).__name__
            )
            raise InputError(f"{self._who} returned {found}, expected float32 (frames, dim)")
        frames, dim = value.shape
        if not frames:
            raise InputError(f"{self._who} returned no frames")
        if self._dim is not None and dim != self._dim:
            raise InputError(f"{self._who} returned dim {dim}, expected {self._dim}")
        if not np.isfinite(value).all():
            raise InputError(f"{self._who} returned NaN or infinite values")
        return value

    @property
    def _who(self) -> str:
        kind = "preprocessor" if self._node.kind == "stream" else "encoder"
        return f"{kind} {self._node.component.name!r}"


def pending(
    node: Node,
    stored: Sequence[Mapping[str, Entry]],
    samples: Sequence[Sample],
    there: Callable[[Sample], bool],
    sources: Sources,
    retry_failed: bool = False,
) -> list[Sample]:
    """Return the samples that are missing, whose files changed, or that are to be retried.

    `stored` is what each collection of the node knows; `there` says whether a sample has all the
    streams that the node reads: one that failed because it had not is then tried again.
    """

    def done(sample: Sample) -> bool:
        entries = [entries.get(sample.id) for entries in stored]
        return all(
            entry is not None
            and not (entry.failed is not None and again(entry, sample))
            and sources.unchanged(entry.source, sample, node.roots)
            for entry in entries
        )

    def again(entry: Entry, sample: Sample) -> bool:
        if entry.record.get("absent"):
            return False
        return retry_failed or (bool(entry.record.get("upstream")) and there(sample))

    return [sample for sample in samples if not done(sample)]


def header(node: Node, pipeline: Pipeline) -> dict[str, JsonValue]:
    """Return what the store keeps beside the values: all that made them."""
    component = node.component
    inputs: dict[str, JsonValue] = {
        name: pipeline.streams[stream].fingerprint if stream in pipeline.streams else stream
        for name, stream in node.inputs.items()
    }
    about: dict[str, JsonValue] = {
        "name": node.name,
        "fingerprint": node.fingerprint,
        "component": describe(component),
        "dtype": node.dtype,
        "distribution": node.origin,
        "inputs": inputs,
        "created": datetime.now(UTC).isoformat(),
    }
    if isinstance(component, Encoder):
        return about | {"dim": component.dim, "frame_rate": component.frame_rate}
    assert isinstance(component, Preprocessor)
    return about | {"medium": medium_name(component.output), "spec": repr(component.output)}


def _failure(item: Item, error: Exception) -> Row:
    record: dict[str, JsonValue] = {}
    if isinstance(error, UpstreamError):
        record["upstream"] = True
    if isinstance(error, AbsentError):
        record["absent"] = True
    return Row(item.sample.id, None, item.source, record, _reason(error, item.sample))


def _reason(error: Exception, sample: Sample) -> str:
    """Return why a sample failed, without its path, so that equal reasons can be counted."""
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    for path in sample.media.values():
        reason = reason.removeprefix(f"{path}: ")
    return reason or type(error).__name__
