"""The extraction of one stream or feature: decode ahead, batch by length, commit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from threading import Event, Lock
from typing import TYPE_CHECKING

from mercore.batches import Batch, apply, in_batches
from mercore.errors import InputError, RunError
from mercore.events import Finished, Halved, SampleFailed, Spent
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.pipeline import Node, Pipeline
from mercore.reader import Item, Reader, Upstream
from mercore.sharing import Looks, in_turn
from mercore.sources import Sources
from mercore.store import Store
from mercore.target import Target
from mercore.watch import Watch

if TYPE_CHECKING:
    from mercore.engines import Engine

Function = Callable[..., Sequence[object]]
"""What a component loads: a batch in, one output a sample out."""

_PIECE = 1024  # samples between two looks at what other runs have done, at most
_STREAK = 20  # samples in a row that fail for no reason of their own: the machine is at fault


@dataclass
class Seconds:
    """Where the time went: wall clock, and the parts of it, summed over the worker processes."""

    samples: int = 0
    wall: float = 0.0
    load: float = 0.0
    """Time the component took to load, imports included; of several workers, the slowest."""
    decode: float = 0.0
    """Summed over the decoding threads; it overlaps with `encode`."""
    wait: float = 0.0
    """Time the encoder waited for decoding."""
    encode: float = 0.0
    write: float = 0.0

    def slowest(self, threads: int) -> str:
        """Return what to make faster: ``decode``, by so many threads, ``encode`` or ``write``.

        Those two are done one after the other, while the threads decode. ``""`` where nothing was
        done.
        """
        if not self.samples:
            return ""
        if self.decode / threads > self.encode + self.write:
            return "decode"
        return "encode" if self.encode >= self.write else "write"


@dataclass(frozen=True)
class Outcome:
    """What extracting one stream or feature came to."""

    node: Node
    samples: int
    extracted: int
    """New in this run, failed ones included."""
    failed: Mapping[str, str]
    """Sample id to reason, for every failed sample of the manifest."""
    absent: int = 0
    """Samples for which the manifest gives nothing to read."""
    seconds: Seconds = field(default_factory=Seconds)
    slowest: str = ""
    """What to make faster: ``decode``, ``encode`` or ``write``; ``""`` where nothing was done."""


@dataclass(frozen=True)
class Work:
    """What the extractions of one run share."""

    pipeline: Pipeline
    samples: Sequence[Sample]
    store: Store
    machine: Machine
    watch: Watch
    retry_failed: bool
    sources: Sources = field(default_factory=Sources)
    stop: Event = field(default_factory=Event)
    """Set when the run is to end: every extraction then ends after its batch in flight."""
    loading: Lock = field(default_factory=Lock)
    """Components load one after another: libraries that import lazily fail in two threads."""


class Extraction:
    """The extraction of one node, as far as one process does it."""

    def __init__(self, node: Node, work: Work) -> None:
        self.node = node
        self.work = work
        self.target = Target(node, work.pipeline, work.store)
        self.upstream = {
            name: Upstream.of(work.pipeline.streams[name], work.store)
            for name in node.upstream(work.pipeline.streams)
        }
        self.seconds = Seconds()
        self.streak = 0
        self.others = 0
        """How many other runs were at the same work before, about."""
        self._began = 0.0
        self._looks = Looks(self._todo)

    def run(self, engine: Engine) -> Outcome:
        """Bring the node's collections up to date; return what that came to."""
        samples = self.work.samples
        todo = self._todo(samples)
        if todo and not self.work.stop.is_set():
            self._extract(todo, engine)
        self.target.mark(self.work.store)
        failed, absent = self.target.failed(samples), self.target.absent(samples)
        if not self.work.stop.is_set():
            self._tell_finished(self.seconds.samples, len(failed))
        new = self.seconds.samples
        return Outcome(self.node, len(samples), new, failed, absent, self.seconds, self._slowest())

    def _slowest(self) -> str:
        return self.seconds.slowest(self.work.machine.threads)

    def _tell_finished(self, extracted: int, failed: int) -> None:
        parts = {**asdict(self.seconds), "samples": len(self.work.samples)}
        event = Finished(name=self.node.name, extracted=extracted, failed=failed, **parts)
        self.work.watch.note(event)

    def _extract(self, todo: Sequence[Sample], engine: Engine) -> None:
        self._began = time.perf_counter()
        self.work.watch.start(self.node.name, len(todo))
        try:
            with self.target.busy() as self.others:
                engine.extract(self, in_turn(todo, self.others))
        finally:
            self.seconds.wall = time.perf_counter() - self._began
            self.target.note({**asdict(self.seconds), "slowest": self._slowest()})
        if not self.work.stop.is_set():
            self.target.tidy()

    def process(
        self,
        function: Function,
        parts: Iterable[Sequence[Sample]],
        committed: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """Read the samples of each part, encode and commit them in batches of the part.

        The next part is asked for while the last samples of the one before are decoded.
        `committed` is told of each batch once it is in the store, and of samples that another run
        has committed meanwhile. Ends after the batch in flight when ``work.stop`` is set.
        """
        machine, waited = self.work.machine, self.seconds.wait
        budget = self.node.component.budget * machine.batch
        reader = Reader(self.node, self.upstream, self.work.sources, machine.limits)
        sizes: deque[int] = deque()
        samples = self._samples(parts, sizes, committed)
        with reader.ahead(samples, machine.threads) as items:
            for batch in _batches(items, sizes, budget):
                self.seconds.wait = waited + reader.waited
                left = {sample.id for sample in self._lacking([item.sample for item in batch])}
                self._batch(function, [item for item in batch if item.sample.id in left])
                committed(batch)
                if self.work.stop.is_set():
                    return

    def _samples(
        self,
        parts: Iterable[Sequence[Sample]],
        sizes: deque[int],
        committed: Callable[[Batch], None],
    ) -> Iterator[Sample]:
        """Yield the samples of all parts, in pieces; note the size of each piece as it begins."""
        for part in parts:
            for start in range(0, len(part), _PIECE):
                piece = part[start : start + _PIECE]
                lacking = self._lacking(piece)
                if len(lacking) < len(piece):
                    left = {sample.id for sample in lacking}
                    committed([Item(sample) for sample in piece if sample.id not in left])
                if lacking:
                    sizes.append(len(lacking))
                    yield from lacking

    def _lacking(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return those of the samples that no other run has done, about."""
        left = self._looks.lacking(samples)
        if len(left) < len(samples):
            self.work.watch.advance(self.node.name, len(samples) - len(left), 0)
        return left

    def _todo(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return those of the samples that are to be done, by what the store holds now."""
        work, upstream = self.work, self.upstream.values()
        return self.target.todo(samples, upstream, work.sources, work.retry_failed)

    def _batch(self, function: Function, batch: Batch) -> None:
        """Encode one batch and commit it; a sample that cannot be used fails alone."""
        if not batch:
            return
        began = time.perf_counter()
        readable = [item for item in batch if item.error is None]
        results = iter(apply(function, [item.inputs for item in readable], self._halved))
        outputs = [item.error or next(results) for item in batch]
        self._check_streak(outputs)
        encoded = time.perf_counter()
        failed = self.target.commit(batch, outputs)
        self.seconds.decode += sum(item.seconds for item in batch)
        self.seconds.encode += encoded - began
        self.seconds.write += time.perf_counter() - encoded
        self.seconds.samples += len(batch)
        for sample, reason in failed.items():
            self.work.watch.note(SampleFailed(self.node.name, sample, reason))
        self.work.watch.advance(self.node.name, len(batch), len(failed))

    def _halved(self, samples: int) -> None:
        self.work.watch.note(Halved(self.node.name, samples))

    def tell_spent(self) -> None:
        """Tell where the time has gone so far."""
        self.seconds.wall = time.perf_counter() - self._began
        parts = asdict(self.seconds)
        del parts["samples"]
        self.work.watch.note(Spent(name=self.node.name, **parts))

    def _check_streak(self, outputs: Sequence[object]) -> None:
        """Raise RunError when sample after sample fails for a reason that is not its own."""
        for output in outputs:
            unexpected = isinstance(output, Exception) and not isinstance(output, InputError)
            self.streak = self.streak + 1 if unexpected else 0
            if self.streak >= _STREAK:
                raise RunError(
                    f"{self.node.name}: {self.streak} samples in a row failed, the last with "
                    f"{type(output).__name__}: {output}; mend that and run again with "
                    "--retry-failed"
                )


def load(node: Node, work: Work) -> Function:
    """Return the node's component with its weights on the machine's device."""
    with work.loading:
        return node.component.load(work.machine.chosen_device(), node.dtype)


def _batches(items: Iterator[Item], sizes: deque[int], budget: float) -> Iterator[Batch]:
    """Yield the batches of each part; a part is as long as `sizes` says."""
    for first in items:
        rest = islice(items, sizes.popleft() - 1)
        yield from in_batches(chain([first], rest), budget)
