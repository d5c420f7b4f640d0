"""Gets the media of samples, in threads ahead of the component that reads them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mercore.components import Inputs, MediaComponent, Preprocessor
from mercore.decode import decode, resample, sample_times
from mercore.errors import InputError, MercoreError
from mercore.limits import DEFAULT, Limits
from mercore.manifest import Sample
from mercore.media import Audio, Frames, Media, Spec, Text, Video, Waveform
from mercore.pipeline import Node
from mercore.sources import Sources
from mercore.store import Collection, Entry, Store
from mercore.streams import unpack

_AHEAD = 8  # samples a thread may be ahead of the component


@dataclass(frozen=True)
class Item:
    """One sample, read: its media, or the reason why it has none."""

    sample: Sample
    inputs: Inputs = field(default_factory=dict)
    source: str = ""
    error: Exception | None = None
    seconds: float = 0.0


class UpstreamError(InputError):
    """A sample cannot be used because a stream it is read from has failed."""


class AbsentError(InputError):
    """The manifest gives no such medium for a sample: nothing is wrong with it."""


@dataclass(frozen=True)
class Upstream:
    """A stream in the store, as it was when reading began."""

    name: str
    spec: Spec
    collection: Collection | None
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, node: Node, store: Store) -> Upstream:
        """Return the stored stream of a node; it may hold nothing."""
        assert isinstance(node.component, Preprocessor)
        collection = store.collection("streams", node.name, node.fingerprint)
        entries = collection.entries() if collection else {}
        return cls(node.name, node.component.output, collection, entries)

    def has(self, sample: Sample) -> bool:
        """Return whether the stream has a medium for the sample."""
        entry = self.entries.get(sample.id)
        return entry is not None and entry.failed is None

    def read(self, sample: Sample) -> Media:
        """Return the sample's medium; raises InputError when there is none."""
        entry = self.entries.get(sample.id)
        if self.collection is None or entry is None:
            raise UpstreamError(f"stream {self.name!r} has nothing for this sample")
        if entry.failed is not None and entry.record.get("absent"):
            raise AbsentError(entry.failed)
        if entry.failed is not None:
            raise UpstreamError(f"stream {self.name!r} failed: {entry.failed}")
        return unpack(self.collection.sequence(sample.id), entry.record, self.spec)


class Reader:
    """Reads the inputs of one node: from the manifest's files, and from streams in the store."""

    def __init__(
        self,
        node: Node,
        upstream: Mapping[str, Upstream],
        sources: Sources,
        limits: Limits = DEFAULT,
    ) -> None:
        self._node = node
        self._needs = node.component.needs()
        self._sources = sources
        self._limits = limits
        self._upstream = upstream
        self.waited = 0.0
        """Seconds the caller waited for the next item."""

    def of(self, component: MediaComponent) -> Reader:
        """Return what reads the same streams for another component."""
        node = replace(self._node, component=component)
        return Reader(node, self._upstream, self._sources, self._limits)

    @contextmanager
    def ahead(self, samples: Iterable[Sample], threads: int) -> Iterator[Iterator[Item]]:
        """Give an iterator over the samples, read in order by `threads` threads."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            yield self._items(pool, samples, threads * _AHEAD)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _items(
        self, pool: ThreadPoolExecutor, samples: Iterable[Sample], limit: int
    ) -> Iterator[Item]:
        waiting: deque[Future[Item]] = deque()
        for sample in samples:
            waiting.append(pool.submit(self.read, sample))
            if len(waiting) >= limit:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def _next(self, waiting: deque[Future[Item]]) -> Item:
        began = time.perf_counter()
        item = waiting.popleft().result()
        self.waited += time.perf_counter() - began
        return item

    def read(self, sample: Sample) -> Item:
        """Return the sample with its media; an error is kept in the item."""
        began = time.perf_counter()
        inputs: Inputs = {}
        source = ""
        error: Exception | None = None
        try:
            source = self._sources.identity(sample, self._node.roots)
            inputs = self.inputs(sample)
        except Exception as problem:  # a broken file may raise anything; the others go on
            if isinstance(problem, MercoreError) and not isinstance(problem, InputError):
                raise
            error = problem
        return Item(sample, inputs, source, error, time.perf_counter() - began)

    def inputs(self, sample: Sample) -> Inputs:
        """Return the media of the sample; what a broken file raises is raised."""
        return {
            name: self._medium(sample, stream, self._needs[name])
            for name, stream in self._node.inputs.items()
            if not self._may_lack(sample, name, stream)
        }

    def _may_lack(self, sample: Sample, name: str, stream: str) -> bool:
        """Return whether the sample lacks an input that its component can do without."""
        optional = name in self._node.component.optional and stream not in self._upstream
        return optional and not sample.words(stream) and sample.file(stream) is None

    def _medium(self, sample: Sample, stream: str, spec: Spec) -> Media:
        if stream in self._upstream:
            return _fitted(self._upstream[stream].read(sample), spec)
        path = sample.file(stream)
        if path is not None:
            return decode(path, spec, self._limits)
        words = sample.words(stream)
        if words is not None:
            return Text(words)
        raise AbsentError(f"the manifest gives no {stream} for this sample")


def _fitted(media: Media, spec: Spec) -> Media:
    """Return a derived medium at the rate, or with the frames, that the spec asks for."""
    if isinstance(media, Waveform) and isinstance(spec, Audio):
        return resample(media, spec.rate)
    if isinstance(media, Frames) and isinstance(spec, Video):
        chosen = sample_times(media.times, spec)
        return Frames(media.pixels[chosen], media.times[chosen])
    return media
