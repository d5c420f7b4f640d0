"""A whole run: extract, train, mine where the registry says so, vote and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mercore.extraction import Outcome
from mercore.results import Round
from mercore.summary import Report, write_report

if TYPE_CHECKING:
    from mercore.project import Project


@dataclass(frozen=True, eq=False)
class Run:
    """What a run came to."""

    extracted: Sequence[Outcome]
    """One a stream and feature."""
    trained: Sequence[str]
    """The branches that were not up to date."""
    rounds: Sequence[Round]
    """Of data mining, the first without pseudo-labels; none where the registry declares none."""
    report: Report

    @property
    def failed(self) -> bool:
        """Whether a sample failed, of any stream or feature."""
        return any(outcome.failed for outcome in self.extracted)


def run(
    project: Project,
    *,
    retry_failed: bool = False,
    extracted: Callable[[Sequence[Outcome]], None] | None = None,
) -> Run:
    """Bring all up to date that the registry describes; return what that came to.

    What is done and unchanged is not done again. `extracted` is told what the extraction came to
    as soon as it is done, since the training after it may fail. Raises a MercoreError before
    anything is extracted where the branches could not be trained.
    """
    project.check_trainable()  # before the hours that extraction may take
    outcomes = project.extract(retry_failed=retry_failed)
    if extracted:
        extracted(outcomes)
    trained = project.train()
    rounds = project.mine() if project.pipeline.registry.content.mining else []
    return Run(outcomes, trained, rounds, write_report(project))
