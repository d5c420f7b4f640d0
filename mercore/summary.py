"""All that a run produced, put together and written as its report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import JsonValue

from mercore.ablation import FILE, Table, current
from mercore.errors import did_you_mean, few
from mercore.events import ReportWritten
from mercore.packages import versions
from mercore.report import build, render
from mercore.results import ManifestResult, Result, Round
from mercore.rounds import mined
from mercore.status import feature_results

if TYPE_CHECKING:
    from mercore.project import Project


class Report(NamedTuple):
    """What is in report.json, and where the page is that shows it."""

    content: dict[str, JsonValue]
    page: Path
    """report.html; report.json lies beside it."""


def write_report(project: Project) -> Report:
    """Return the content of report.json and the path of report.html; write both."""
    report = build(summarise(project))
    project.folder.save_json("report.json", report)
    page = project.folder.save("report.html", render(report))
    project.watch.note(ReportWritten(str(page)))
    return Report(report, page)


def summarise(project: Project) -> Result:
    """Return what the run produced; raises RunError for a branch that is out of date."""
    rounds = project.rounds()
    results = rounds[-1].results
    registry, manifest = project.pipeline.registry.document, project.manifest
    ablation = current(project)
    nodes, branches = project.pipeline.nodes, project.pipeline.branches
    origins = [node.origin for node in nodes.values()] + [one.origin for one in branches.values()]
    return Result(
        title=f"{project.folder.path.name}: {registry.path.name} on {manifest.path.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=project.pipeline.classes,
        ids=tuple(project.ids),
        splits=tuple(manifest.table["split"]),
        labels=project.labels,
        branches=tuple(results),
        ensemble=project.pipeline.ensemble.name,
        decision=project.decide(results),
        mining=tuple(mined(project, rounds) if len(rounds) > 1 else ()),
        features=tuple(feature_results(project.pipeline, manifest, project.store)),
        registry=registry.text,
        manifest=ManifestResult(manifest.path.name, len(manifest.ids), manifest.notes),
        versions=versions(origins),
        warnings=tuple(
            [
                *_searched(project),
                *_unmined(project, rounds),
                *_blind(project),
                *_rare_classes(project),
                *_stale(project, ablation),
            ]
        ),
        media=tuple(sample.media for sample in manifest.samples),
        folder=str(project.folder.path.absolute()),
        ablation=ablation,
    )


def _searched(project: Project) -> list[str]:
    searched = [name for name, branch in project.pipeline.branches.items() if branch.found]
    if not searched:
        return []
    return [
        f"the options of {few(searched)} are those that did best in cross-validation: their "
        "cross-validated WAF is a little too good"
    ]


def _unmined(project: Project, rounds: Sequence[Round]) -> list[str]:
    mining = project.pipeline.registry.content.mining
    if mining is None or len(rounds) > 1:
        return []
    if mining.split not in project.manifest.splits:
        hint = did_you_mean(mining.split, project.manifest.splits)
        return [f"nothing was mined: no sample is in the split {mining.split!r}{hint}"]
    return [
        f"nothing was mined: no sample of the split {mining.split!r} has a label that "
        f"{mining.agree} branches agree on"
    ]


def _blind(project: Project) -> list[str]:
    """Return a warning about samples of which nothing is known."""
    used = len(project.pipeline.used)
    missing = zip(project.ids, project.missing(), strict=True)
    blind = [identifier for identifier, names in missing if len(names) == used]
    if not blind:
        return []
    return [
        f"{len(blind)} samples lack every feature and are predicted from training means alone: "
        f"{few(blind)}"
    ]


def _stale(project: Project, ablation: Table | None) -> list[str]:
    if ablation or project.folder.read_json(FILE) is None:
        return []
    return [
        f"{FILE} is left out: it is not of the features, samples and options that there are now; "
        "run `mer ablate` again"
    ]


def _rare_classes(project: Project) -> list[str]:
    content = project.pipeline.registry.content
    counts = np.bincount(project.trained_labels, minlength=len(content.classes))
    return [
        f"class {name!r} has {count} training samples: fewer than the {content.folds} folds"
        for name, count in zip(content.classes, counts.tolist(), strict=True)
        if count < content.folds
    ]
