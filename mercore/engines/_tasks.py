"""The training of branches on a Ray cluster: a task a branch, or a draw of a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from mercore.dataset import Dataset
from mercore.engines._cluster import connect, room_for_fits, said
from mercore.engines._worker import INSTALL, sendable
from mercore.errors import RunError
from mercore.fits import Fit, Jobs, R, Step, alone
from mercore.machine import Machine, cores_outside


@dataclass(frozen=True)
class Tasks:
    """Does the fits side by side on the nodes of a cluster."""

    machine: Machine
    sent: dict[int, tuple[Dataset, Any]] = field(default_factory=dict)
    """What the cluster has, by ``id``, and what stands for it there."""

    def each(self, step: Step[R], jobs: Jobs) -> Iterator[tuple[Fit, R]]:
        """See ``Fits``."""
        connect(self.machine.address)
        started = [(fit, self._start(step, fit, data)) for fit, data in jobs]
        try:
            for fit, result in started:
                yield fit, _result(fit, result)
        except BaseException:
            _cancel([result for _, result in started])
            raise

    def _start(self, step: Step[R], fit: Fit, data: Dataset) -> Any:
        cores = cores_outside()  # as here, for how many folds are trained as one decides rounding
        room = room_for_fits(self.machine, min(cores, fit.count))
        task: Any = ray.remote(_done).options(**room.options)
        return task.remote(step, fit, self._sent(data), room.device, cores)

    def _sent(self, data: Dataset) -> Any:
        if id(data) not in self.sent:
            self.sent[id(data)] = (data, ray.put(data))
        return self.sent[id(data)][1]


def _result(fit: Fit, result: Any) -> Any:
    try:
        found = ray.get(result)
    except RayError as error:
        raise RunError(f"branch {fit.branch.name!r}: {said(error)}; {INSTALL}") from error
    if isinstance(found, Exception):
        raise found
    return found


def _cancel(results: list[Any]) -> None:
    """End what is under way; Ray (2.60) aborts where a task that has just ended is cancelled."""
    _, running = ray.wait(results, num_returns=len(results), timeout=0)
    for result in running:
        ray.cancel(result, force=True)


def _done(step: Step[R], fit: Fit, data: Dataset, device: str, outside: int) -> R | Exception:
    """Return what the step returns, or the error it raises."""
    try:
        return alone(step, fit, data, device, outside)
    except Exception as error:
        return sendable(error)
