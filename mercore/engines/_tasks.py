"""The training of branches on a Ray cluster: a task a branch, or a draw of a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from mercore.dataset import Dataset
from mercore.engines._cluster import connect, room_for_fits
from mercore.engines._worker import sendable
from mercore.errors import RunError
from mercore.fits import Fit, Jobs, R, Step, alone
from mercore.machine import Machine, cores_outside


@dataclass(frozen=True)
class Tasks:
    """Does the fits side by side on the nodes of a cluster."""

    machine: Machine

    def each(self, step: Step[R], jobs: Jobs) -> Iterator[tuple[Fit, R]]:
        """See ``Fits``."""
        connect(self.machine.address)
        cores = cores_outside()
        # As many folds side by side as there would be here: it decides the rounding.
        room = room_for_fits(self.machine, cores)
        task = ray.remote(_done).options(**room.options)
        sent: dict[int, tuple[Dataset, ray.ObjectRef]] = {}
        fits = []
        for fit, data in jobs:
            if id(data) not in sent:
                sent[id(data)] = (data, ray.put(data))
            fits.append((fit, task.remote(step, fit, sent[id(data)][1], room.device, cores)))
        try:
            for fit, result in fits:
                yield fit, _result(fit, result)
        finally:
            for _, result in fits:
                ray.cancel(result, force=True)


def _result(fit: Fit, result: ray.ObjectRef) -> R:
    try:
        found = ray.get(result)
    except RayError as error:
        raise RunError(f"branch {fit.branch.name!r}: {error}") from error
    if isinstance(found, Exception):
        raise found
    return found


def _done(step: Step[R], fit: Fit, data: Dataset, device: str, outside: int) -> R | Exception:
    """Return what the step returns, or the error it raises."""
    try:
        return alone(step, fit, data, device, outside)
    except Exception as error:
        return sendable(error)
