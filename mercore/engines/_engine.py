"""What an engine is, and the one that needs no other process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from mercore.extraction import Extraction, load
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.packages import RAY, needed


class Engine(Protocol):
    """Extracts the samples of one stream or feature; several may be under way in threads."""

    def extract(self, extraction: Extraction, todo: Sequence[Sample]) -> None:
        """Commit each sample, with its values or with the reason why it has none.

        The parts of ``extraction.seconds`` but `wall` are added to, and ``extraction.work.watch``
        is told of what is committed. Returns early once ``extraction.work.stop`` is set, with the
        batches in flight committed. Raises a MercoreError that no sample can cause.
        """


class InProcess:
    """The engine that extracts in this process, on the machine's one device."""

    def extract(self, extraction: Extraction, todo: Sequence[Sample]) -> None:
        """See ``Engine``."""
        began = time.perf_counter()
        function = load(extraction.node, extraction.work)
        extraction.seconds.load = time.perf_counter() - began
        extraction.process(function, [todo], lambda batch: extraction.tell_spent())


def engine_of(machine: Machine) -> Engine:
    """Return the engine that a machine asks for."""
    if machine.engine == "ray":
        needed("ray", "engine 'ray'", RAY)
        from mercore.engines._ray import Ray

        return Ray.connected(machine)
    if not machine.processes:
        return InProcess()
    from mercore.engines._processes import Processes

    return Processes(machine.processes, machine.retries)
