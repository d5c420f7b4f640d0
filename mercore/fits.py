"""Where branches are trained: one after another in this process, or side by side on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mercore import branches
from mercore.branches import Trained
from mercore.components import IntArray, Weights
from mercore.dataset import Dataset
from mercore.machine import Machine, cores_outside, limited
from mercore.packages import RAY, needed
from mercore.pipeline import BranchNode

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Fit:
    """A branch to train, and all that decides how but the samples; see ``branches.train``."""

    branch: BranchNode
    folds: IntArray
    classes: int
    seed: int
    pseudo: IntArray | None = None
    start: Sequence[Weights] | None = None

    @property
    def count(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    def on(self, data: Dataset, device: str) -> Trained:
        """Return the branch trained on the samples."""
        return branches.train(
            self.branch,
            data,
            self.folds,
            classes=self.classes,
            device=device,
            seed=self.seed,
            pseudo=self.pseudo,
            start=self.start,
        )


Step = Callable[[Fit, Dataset, str], R]
"""What is done with a fit, its samples, and the device to use."""
Jobs = Iterable[tuple[Fit, Dataset]]


class Fits(Protocol):
    """Does the fits of a training or a search."""

    def each(self, step: Step[R], jobs: Jobs) -> Iterator[tuple[Fit, R]]:
        """Yield every fit with what the step returns for it, in their order.

        `step` is a function of a module. Raises what it raises.
        """


@dataclass(frozen=True)
class Here:
    """One after another in this process, each when it is asked for."""

    machine: Machine

    def each(self, step: Step[R], jobs: Jobs) -> Iterator[tuple[Fit, R]]:
        """See ``Fits``."""
        device = self.machine.chosen_device()
        for fit, data in jobs:
            yield fit, alone(step, fit, data, device, cores_outside())


def alone(step: Step[R], fit: Fit, data: Dataset, device: str, outside: int) -> R:
    """Return what the step returns, on one thread and `outside` cores for its folds side by side.

    One thread: the steps of a fusion are too small to share, and the sums of its products come out
    the same on any number of cores.
    """
    with limited(1, outside):
        return step(fit, data, device)


def fits_of(machine: Machine) -> Fits:
    """Return where the machine has branches trained."""
    if machine.engine == "local":
        return Here(machine)
    needed("ray", "engine 'ray'", RAY)
    from mercore.engines._tasks import Tasks

    return Tasks(machine)
