"""What each round of data mining came to, for the report and the terminal (Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.metrics import waf
from mercore.results import Round, votes
from mercore.voting import decide

if TYPE_CHECKING:
    from mercore.project import Project


def mined(project: Project, rounds: Sequence[Round]) -> list[dict[str, JsonValue]]:
    """Return a row a round, the first without pseudo-labels.

    ``round``; ``accepted``: the samples it labelled, by class; ``left``: those of the split
    without a label after it; ``right``: the share of all accepted so far whose label in the
    manifest, which nothing else looks at, is the same, null where none has one; ``branches``: the
    cross-validated WAF of each; ``waf``: that of the ensemble on every labelled split.
    """
    return [_row(project, number, round) for number, round in enumerate(rounds)]


def _row(project: Project, number: int, round: Round) -> dict[str, JsonValue]:
    classes, pseudo = project.pipeline.classes, round.pseudo
    mining = project.pipeline.registry.content.mining
    new = pseudo.labels[(pseudo.rounds == number) & (pseudo.rounds > 0)]
    inside = np.array(project.manifest.table["split"]) == (mining.split if mining else None)
    counts = np.bincount(new, minlength=len(classes)).tolist()
    return {
        "round": number,
        "accepted": dict(zip(classes, counts, strict=True)),
        "left": int((inside & (pseudo.labels < 0)).sum()),
        "right": _right(pseudo.labels, project.labels),
        "branches": {result.name: result.waf for result in round.results},
        "waf": _waf(project, round),
    }


def _right(pseudo: IntArray, labels: IntArray) -> float | None:
    known = (pseudo >= 0) & (labels >= 0)
    return float((pseudo == labels)[known].mean()) if known.any() else None


def _waf(project: Project, round: Round) -> dict[str, JsonValue]:
    """Return the WAF of the ensemble on every labelled split, in the order of the manifest."""
    voted = votes(round.results, project.training_labels)
    decided = decide(project.pipeline.ensemble, voted).labels
    splits, labelled = np.array(project.manifest.table["split"]), project.labels >= 0
    scores: dict[str, JsonValue] = {}
    for split in dict.fromkeys(splits[labelled].tolist()):
        rows = labelled & (splits == split)
        scores[split] = waf(project.labels[rows], decided[rows], len(project.pipeline.classes))
    return scores
