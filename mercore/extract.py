"""Streams and features into the store, several at once, each after those it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter

from mercore.engines import Engine, engine_of
from mercore.errors import RegistryError, did_you_mean
from mercore.extraction import Extraction, Outcome, Work
from mercore.machine import Machine, cores, limited
from mercore.manifest import Manifest
from mercore.pipeline import Node, Pipeline
from mercore.store import Store
from mercore.watch import Silent, Watch


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
    features and streams and to what they read; empty means all features. The machine says whether
    this process does the work, or worker processes. When it is interrupted, the batches in flight
    are committed first.
    """
    work = Work(pipeline, manifest.samples, store, machine, watch or Silent(), retry_failed)
    nodes = {node.name: node for node in needed(pipeline, names)}
    engine, count = engine_of(machine), machine.at_once()
    with limited(cores() // (count * max(1, len(machine.processes)))):
        outcomes = _in_order(nodes, work, count, engine)
    return [outcomes[name] for name in nodes]


def _in_order(
    nodes: Mapping[str, Node], work: Work, count: int, engine: Engine
) -> dict[str, Outcome]:
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
                    running[pool.submit(Extraction(nodes[name], work).run, engine)] = name
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
