"""Streams and features into the store: decode ahead, batch by length, commit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from threading import Event
from typing import Protocol

from mercore.batches import Batch, apply, in_batches
from mercore.errors import InputError, RegistryError, RunError, did_you_mean
from mercore.manifest import Manifest, Sample
from mercore.pipeline import Node, Pipeline
from mercore.reader import Reader, Upstream
from mercore.sources import Sources
from mercore.store import Store
from mercore.target import Target
from mercore.threads import cores, limited

_STREAK = 20  # samples in a row that fail for no reason of their own: the machine is at fault


@dataclass(frozen=True)
class Machine:
    """Where and how to run; none of it is part of the experiment."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    batch: float = 1.0
    """Scales how much media one batch holds."""
    threads: int = 2
    """Threads that decode ahead."""
    parallel: int = 0
    """Streams and features extracted at once; 0 is two on a CPU with the cores for it, else one."""

    def __post_init__(self) -> None:
        if not self.batch > 0:
            raise RunError(f"batch {self.batch!r}: expected a number above 0")

    def at_once(self) -> int:
        """Return how many streams and features are extracted at once."""
        if self.parallel:
            return self.parallel
        # Asking torch whether there is a GPU would import it, also when nothing is to be done.
        alone = self.device.startswith("cuda") or os.path.exists("/dev/nvidiactl")
        return 1 if alone and self.device != "cpu" else min(2, cores())

    def chosen_device(self) -> str:
        """Return the device, with ``auto`` resolved to the first GPU or the CPU."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise RunError(f"device {self.device!r}: expected auto, cpu, cuda or cuda:N")
        if self.device == "cpu":
            return "cpu"
        try:
            import torch

            found = torch.cuda.is_available()
        except ImportError:
            found = False
        if self.device != "auto" and not found:
            raise RunError(f"device {self.device!r}: torch finds no CUDA device; use --device cpu")
        return self.device if self.device != "auto" else "cuda" if found else "cpu"


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


class Watch(Protocol):
    """Is told how extraction goes on; see ``mercore.progress``."""

    def start(self, name: str, total: int) -> None:
        """Begin work on `total` samples."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Count samples that are committed."""


class Silent:
    """A Watch that shows nothing."""

    def start(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, name: str, done: int, failed: int) -> None:
        """Do nothing."""


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


def extract(
    pipeline: Pipeline,
    manifest: Manifest,
    store: Store,
    machine: Machine,
    *,
    names: Iterable[str] = (),
    retry_failed: bool = False,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Bring the store up to date and return what each stream and feature came to.

    What is in the store and unchanged is not done again. `names` limits the work to these
    features and streams and to what they read; empty means all features. When it is interrupted,
    the batches in flight are committed first.
    """
    work = Work(pipeline, manifest.samples, store, machine, watch or Silent(), retry_failed)
    nodes = {node.name: node for node in needed(pipeline, names)}
    count = machine.at_once()
    with limited(cores() // count):
        outcomes = _in_order(nodes, work, count)
    return [outcomes[name] for name in nodes]


def _in_order(nodes: Mapping[str, Node], work: Work, count: int) -> dict[str, Outcome]:
    """Return the outcome of each node, `count` at once, each after those it reads."""
    order = TopologicalSorter({name: nodes[name].upstream(nodes) for name in nodes})
    order.prepare()
    ready: list[str] = []
    outcomes: dict[str, Outcome] = {}
    running: dict[Future[Outcome], str] = {}
    with ThreadPoolExecutor(count, thread_name_prefix="extract") as pool:
        try:
            while order.is_active():
                ready += order.get_ready()
                ready.sort(key=lambda name: _height(name, nodes))
                while ready and len(running) < count:
                    name = ready.pop()
                    running[pool.submit(_Extraction(nodes[name], work).run)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    outcomes[name] = future.result()
                    order.done(name)
        except BaseException:
            work.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _height(name: str, nodes: Mapping[str, Node]) -> int:
    """Return the length of the longest chain of nodes that waits for this one."""
    readers = [node.name for node in nodes.values() if name in node.upstream(nodes)]
    return 1 + max((_height(reader, nodes) for reader in readers), default=0)


def needed(pipeline: Pipeline, names: Iterable[str] = ()) -> list[Node]:
    """Return the named nodes and all they read, each after those it reads."""
    known = pipeline.nodes
    waiting = list(names) or list(pipeline.features)
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        if name not in known:
            hint = did_you_mean(name, known)
            raise RegistryError(f"the registry has no stream or feature called {name!r}{hint}")
        wanted.add(name)
        waiting += known[name].upstream(pipeline.streams)
    return [node for name, node in known.items() if name in wanted]


class _Extraction:
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
        function = component.load(machine.chosen_device(), self.node.dtype)
        self.seconds.load = time.perf_counter() - began
        reader = Reader(self.node, self.upstream, self.work.sources)
        try:
            with reader.ahead(todo, machine.threads) as items:
                for batch in in_batches(items, component.budget * machine.batch):
                    self._batch(function, batch)
                    if self.work.stop.is_set():
                        return
        finally:
            self.seconds.wait = reader.waited
            self.seconds.wall = time.perf_counter() - began
            self.target.note(self.seconds)
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
