"""The extraction of one stream or feature: decode ahead, batch by length, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from threading import Event, Lock

from mercore.batches import Batch, apply, in_batches
from mercore.errors import InputError, RunError
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.pipeline import Node, Pipeline
from mercore.reader import Reader, Upstream
from mercore.sources import Sources
from mercore.store import Store
from mercore.target import Target
from mercore.watch import Watch

_STREAK = 20  # samples in a row that fail for no reason of their own: the machine is at fault


@dataclass
class Seconds:
    """Where the time went: wall clock, and the parts of it."""

    samples: int = 0
    wall: float = 0.0
    load: float = 0.0
    """Time the component took to load, imports included."""
    decode: float = 0.0
    """Summed over the decoding threads; it overlaps with `encode`."""
    wait: float = 0.0
    """Time the encoder waited for decoding."""
    encode: float = 0.0
    write: float = 0.0


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
    """The extraction of one node."""

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

    def run(self) -> Outcome:
        """Bring the node's collections up to date; return what that came to."""
        samples = self.work.samples
        todo = self.target.todo(
            samples, self.upstream.values(), self.work.sources, self.work.retry_failed
        )
        if todo and not self.work.stop.is_set():
            self._extract(todo)
        self.target.mark(self.work.store)
        failed, absent = self.target.failed(samples), self.target.absent(samples)
        return Outcome(self.node, len(samples), len(todo), failed, absent, self.seconds)

    def _extract(self, todo: Sequence[Sample]) -> None:
        began = time.perf_counter()
        machine, component = self.work.machine, self.node.component
        self.work.watch.start(self.node.name, len(todo))
        with self.work.loading:
            function = component.load(machine.chosen_device(), self.node.dtype)
        self.seconds.load = time.perf_counter() - began
        reader = Reader(self.node, self.upstream, self.work.sources, machine.limits)
        try:
            with reader.ahead(todo, machine.threads) as items:
                for batch in in_batches(items, component.budget * machine.batch):
                    self._batch(function, batch)
                    if self.work.stop.is_set():
                        return
        finally:
            self.seconds.wait = reader.waited
            self.seconds.wall = time.perf_counter() - began
            self.target.note(asdict(self.seconds))
        self.target.tidy()

    def _batch(self, function: Callable[..., Sequence[object]], batch: Batch) -> None:
        """Encode one batch and commit it; a sample that cannot be used fails alone."""
        began = time.perf_counter()
        readable = [item for item in batch if item.error is None]
        results = iter(apply(function, [item.inputs for item in readable]))
        outputs = [item.error or next(results) for item in batch]
        self._check_streak(outputs)
        encoded = time.perf_counter()
        failed = self.target.commit(batch, outputs)
        self.seconds.decode += sum(item.seconds for item in batch)
        self.seconds.encode += encoded - began
        self.seconds.write += time.perf_counter() - encoded
        self.seconds.samples += len(batch)
        self.work.watch.advance(self.node.name, len(batch), failed)

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
