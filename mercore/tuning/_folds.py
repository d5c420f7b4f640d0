"""Which samples of a project are trained on, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from mercore.branches import assign_folds
from mercore.components import IntArray
from mercore.errors import RunError
from mercore.manifest import Sample
from mercore.reader import Upstream
from mercore.tuning._options import Classifying

if TYPE_CHECKING:
    from mercore.project import Project


@dataclass(frozen=True, eq=False)
class Targets:
    """Samples of a manifest, with the classes that they are to be learnt as."""

    samples: Sequence[Sample]
    labels: IntArray
    """``(samples,)``."""

    @property
    def ids(self) -> frozenset[str]:
        """Those of the samples."""
        return frozenset(sample.id for sample in self.samples)

    @property
    def described(self) -> list[JsonValue]:
        """The id and the class of each."""
        ids = (sample.id for sample in self.samples)
        return [list(pair) for pair in zip(ids, self.labels.tolist(), strict=True)]


def parted(
    project: Project, name: str, upstream: Sequence[Upstream], tuning: Classifying, fold: int
) -> tuple[Targets, Targets]:
    """Return the samples to train the feature `name` on, and those of the fold.

    Only samples that have what the feature reads. Raises RunError where there are none.
    """
    content, samples = project.pipeline.registry.content, project.manifest.samples
    if not 0 <= fold < content.folds:
        raise RunError(f"fold {fold}: expected 0 to {content.folds - 1} (folds: {content.folds})")
    folds = assign_folds(
        samples, project.labels, content.folds, content.seed, project.pipeline.classes
    )
    targets = _targets(project, tuning)
    usable = np.array([all(stream.has(s) for stream in upstream) for s in samples])
    train = np.flatnonzero(usable & (folds >= 0) & (folds != fold))
    valid = np.flatnonzero(usable & (folds == fold))
    if not len(train) or not len(valid):
        streams = ", ".join(stream.name for stream in upstream)
        raise RunError(f"no sample has what {name!r} reads ({streams}); see `mer status`")
    of_train, of_valid = (
        Targets([samples[row] for row in rows], targets[rows]) for rows in (train, valid)
    )
    return of_train, of_valid


def _targets(project: Project, tuning: Classifying) -> IntArray:
    """Return ``(samples,)`` the class that each sample is to be learnt as, -1 for none."""
    classes = project.classes
    learnt = tuning.targets(classes)
    places = [learnt.index(tuning.label_map.get(label, label)) for label in classes]
    return np.array([*places, -1], np.int64)[project.labels]
