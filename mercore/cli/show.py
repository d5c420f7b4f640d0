"""What the commands report, as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mercore.errors import few
from mercore.results import FASTER

if TYPE_CHECKING:
    from mercore.components import Decision
    from mercore.corrupt import Corrupted
    from mercore.extraction import Outcome
    from mercore.manifest import Manifest
    from mercore.pipeline import Node, Pipeline
    from mercore.predict import Prediction
    from mercore.project import Project
    from mercore.repair import Repair
    from mercore.results import BranchResult, Round
    from mercore.store import Collection, Damage, Store

Json = dict[str, Any]


def checked(pipeline: Pipeline, manifest: Manifest | None) -> Json:
    """Return what a registry, and a manifest, declare."""
    branches = {name: list(branch.features) for name, branch in pipeline.branches.items()}
    return {
        "registry": str(pipeline.registry.document.path),
        "classes": list(pipeline.classes),
        "components": [_node(node) for node in pipeline.nodes.values()],
        "branches": branches,
        "ensemble": pipeline.ensemble.name,
        "manifest": manifest and _samples(manifest),
    }


def _node(node: Node) -> Json:
    return {
        "name": node.name,
        "kind": node.kind,
        "uses": node.component.name,
        "inputs": dict(node.inputs),
        "fingerprint": node.fingerprint,
        "distribution": node.origin,
    }


def _samples(manifest: Manifest) -> Json:
    splits = Counter(manifest.table["split"])
    return {"path": str(manifest.path), "samples": len(manifest.ids), "splits": dict(splits)}


def extracted(outcomes: Sequence[Outcome]) -> list[Json]:
    """Return what the extraction of each stream and feature came to."""
    return [
        {
            "name": outcome.node.name,
            "kind": outcome.node.kind,
            "uses": outcome.node.component.name,
            "samples": outcome.samples,
            "extracted": outcome.extracted,
            "failed": len(outcome.failed),
            "absent": outcome.absent,
            "failures": reasons(outcome.failed),
            "seconds": round(outcome.seconds.wall, 3),
            "load": round(outcome.seconds.load, 3),
            "decode": round(outcome.seconds.decode, 3),
            "wait": round(outcome.seconds.wait, 3),
            "encode": round(outcome.seconds.encode, 3),
            "write": round(outcome.seconds.write, 3),
            "slowest": outcome.slowest,
            "faster": FASTER.get(outcome.slowest, ""),
        }
        for outcome in outcomes
    ]


def repaired(found: Repair, root: Damage | None) -> Json:
    """Return what was damaged in the store, and what came of it."""
    damage = [root, *found.damage] if root else found.damage
    return {
        "damaged": [
            {
                "collection": each.collection or None,
                "file": each.file,
                "found": each.found,
                "samples": None if each.samples is None else list(each.samples),
            }
            for each in damage
        ],
        "extracted": extracted(found.extracted),
        "imported": list(found.imported),
        "unknown": list(found.unknown),
    }


def faster(rows: Sequence[Json]) -> list[str]:
    """Return a line for each part that is the slowest of some: what makes it faster."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        names.setdefault((row["slowest"], row["faster"]), []).append(row["name"])
    return [
        f"slowest is {part} ({few(of)}): {advice}" for (part, advice), of in names.items() if part
    ]


def reasons(failed: Mapping[str, str]) -> list[Json]:
    """Return the reasons with the samples they hit, the most frequent first."""
    samples: dict[str, list[str]] = {}
    for identifier, reason in failed.items():
        samples.setdefault(reason, []).append(identifier)
    ranked = sorted(samples.items(), key=lambda item: -len(item[1]))
    return [{"reason": reason, "samples": ids} for reason, ids in ranked]


def stored(project: Project) -> Json:
    """Return what the store holds for the project, and what it holds besides."""
    from mercore.status import feature_results, superseded

    results = feature_results(project.pipeline, project.manifest, project.store)
    return {
        "store": str(project.store.path),
        "current": [
            {
                "name": result.name,
                "kind": result.kind,
                "fingerprint": result.fingerprint,
                "done": result.samples,
                "samples": len(project.ids),
                "failed": len(result.failed),
                "failures": reasons(dict(result.failed)),
                "dim": result.dim,
                "slowest": result.slowest,
                "faster": FASTER.get(result.slowest, ""),
            }
            for result in results
        ],
        "superseded": stale(superseded(project.pipeline, project.store), project.store),
    }


def stale(collections: Sequence[Collection], store: Store) -> list[Json]:
    """Return what the store holds that the registry does not describe."""
    return [_superseded(collection, store) for collection in collections]


def _superseded(collection: Collection, store: Store) -> Json:
    return {
        "name": f"{collection.group}/{collection.name}@{collection.fingerprint}",
        "samples": len(collection.entries()),
        "bytes": store.size(collection),
    }


def trained(project: Project, results: Sequence[BranchResult], new: Sequence[str]) -> list[Json]:
    """Return the scores of the branches."""
    return [
        {
            "branch": result.name,
            "features": list(result.features),
            "fusion": result.fusion,
            "found": dict(project.pipeline.branches[result.name].found),
            "fold_waf": list(result.fold_waf),
            "filled": result.filled,
            "seconds": round(result.seconds, 3),
            "trained_now": result.name in new,
        }
        for result in results
    ]


def mined(project: Project, rounds: Sequence[Round]) -> Json:
    """Return what each round of data mining accepted, and how well the branches then did."""
    from mercore import rounds as table

    return {
        "split": project.pipeline.registry.content.mining
        and project.pipeline.registry.content.mining.split,
        "mined": str(project.folder.path / "mining" / "mined.csv"),
        "rounds": table.mined(project, rounds),
    }


def decided(project: Project, decision: Decision) -> Json:
    """Return how often each class was decided in each split."""
    counts: dict[str, Counter[str]] = {}
    for sample, label in zip(project.manifest.samples, decision.labels.tolist(), strict=True):
        counts.setdefault(sample.split, Counter())[project.pipeline.classes[label]] += 1
    return {
        "ensemble": project.pipeline.ensemble.name,
        "predictions": str(project.folder.path / "predictions.csv"),
        "decided": {split: dict(found) for split, found in counts.items()},
    }


def predicted(prediction: Prediction) -> Json:
    """Return what is predicted for one clip."""
    votes = prediction.votes
    return {
        "id": prediction.id,
        "label": prediction.label,
        "probabilities": dict(prediction.probabilities),
        "support": prediction.support,
        "branches": {
            name: {"label": votes[name], "probabilities": dict(table)}
            for name, table in prediction.branches.items()
        },
        "missing": dict(prediction.missing),
    }


def corrupted(done: Corrupted) -> Json:
    """Return how many clips were written, what was added how often, and what failed."""
    copies = done.copies.values()
    conditions = Counter(str(copy.audio["condition"]) for copy in copies if copy.audio)
    blurs = Counter(str(copy.video["blur"]) for copy in copies if copy.video)
    return {
        "manifest": str(done.folder.manifest),
        "record": str(done.folder.record),
        "written": len(done.new),
        "unchanged": len(done.copies) - len(done.new),
        "conditions": dict(sorted(conditions.items())),
        "blur": dict(sorted(blurs.items())),
        "failed": len(done.failed),
        "failures": reasons(dict(done.failed)),
        "stale": list(done.stale),
    }
