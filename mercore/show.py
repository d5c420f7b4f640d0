"""What the commands print: JSON values, and the same as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mercore.components import Decision
from mercore.extract import Outcome
from mercore.manifest import Manifest
from mercore.pipeline import Node, Pipeline
from mercore.plugins import Plugins
from mercore.project import Project
from mercore.report import summary_table
from mercore.results import BranchResult
from mercore.status import feature_results, superseded
from mercore.store import Collection, Store

Json = dict[str, Any]
_REASONS = 5


def checked(pipeline: Pipeline, manifest: Manifest | None) -> Json:
    """Return what a registry, and a manifest, declare."""
    nodes = [*pipeline.streams.values(), *pipeline.features.values()]
    branches = {name: list(branch.features) for name, branch in pipeline.branches.items()}
    return {
        "registry": str(pipeline.registry.document.path),
        "classes": list(pipeline.classes),
        "components": [_node(node) for node in nodes],
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
    splits = Counter(sample.split for sample in manifest.samples)
    return {"path": str(manifest.path), "samples": len(manifest.samples), "splits": dict(splits)}


def print_checked(about: Json) -> None:
    """Print the components and the branches as tables."""
    table = _table("name", "kind", "uses", "inputs", "distribution")
    for row in about["components"]:
        inputs = ", ".join(
            name if name == stream else f"{name}: {stream}"
            for name, stream in row["inputs"].items()
        )
        _add(table, row["name"], row["kind"], row["uses"], inputs, row["distribution"])
    _print(table)
    for name, features in about["branches"].items():
        _say(f"branch {name} = {' + '.join(features)}")
    if about["manifest"]:
        found = about["manifest"]
        splits = ", ".join(f"{count} {split}" for split, count in found["splits"].items())
        _say(f"{found['path']}: {found['samples']} samples ({splits})")
    _say(f"{about['registry']}: no mistakes")


def installed(plugins: Plugins) -> Json:
    """Return all components that are installed, what is broken and what is in conflict."""
    return {
        "components": [
            {
                "kind": provided.kind,
                "name": provided.component.name,
                "distribution": provided.distribution,
                "version": provided.version,
                "about": (provided.component.__doc__ or "").strip().partition("\n")[0],
            }
            for provided in plugins
        ],
        "broken": [
            {
                "plugin": broken.plugin,
                "distribution": broken.distribution,
                "reason": broken.reason,
            }
            for broken in plugins.broken
        ],
        "conflicts": plugins.conflicts(),
    }


def print_installed(about: Json) -> None:
    """Print the components as a table, what is broken below it."""
    table = _table("kind", "name", "distribution", "about")
    for row in about["components"]:
        origin = f"{row['distribution']} {row['version']}"
        _add(table, row["kind"], row["name"], origin, row["about"])
    _print(table)
    for broken in about["broken"]:
        _say(
            f"set aside: plugin {broken['plugin']!r} of {broken['distribution']}: "
            f"{broken['reason']}"
        )
    for conflict in about["conflicts"]:
        _say(f"conflict: {conflict}")


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
            "failures": _reasons(outcome.failed),
            "seconds": round(outcome.seconds.wall, 3),
            "load": round(outcome.seconds.load, 3),
            "decode": round(outcome.seconds.decode, 3),
            "wait": round(outcome.seconds.wait, 3),
            "encode": round(outcome.seconds.encode, 3),
            "write": round(outcome.seconds.write, 3),
        }
        for outcome in outcomes
    ]


def _reasons(failed: Mapping[str, str]) -> list[Json]:
    """Return the reasons with the samples they hit, the most frequent first."""
    samples: dict[str, list[str]] = {}
    for identifier, reason in failed.items():
        samples.setdefault(reason, []).append(identifier)
    ranked = sorted(samples.items(), key=lambda item: -len(item[1]))
    return [{"reason": reason, "samples": ids} for reason, ids in ranked]


def print_extracted(about: Sequence[Json]) -> None:
    """Print a table of what was done; failures with their reasons below it."""
    table = _table("name", "uses", "samples", "new", "failed", "seconds", "samples/s")
    for row in about:
        rate = row["extracted"] / row["seconds"] if row["seconds"] else None
        _add(
            table, row["name"], row["uses"], row["samples"], row["extracted"], row["failed"] or "",
            f"{row['seconds']:.1f}" if row["seconds"] else "",
            f"{rate:.1f}" if rate else "",
        )  # fmt: skip
    _print(table)
    for row in about:
        _print_reasons(row["name"], row["failures"])


def _print_reasons(name: str, failures: Sequence[Json]) -> None:
    for failure in failures[:_REASONS]:
        ids = failure["samples"]
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        _say(f"{name}: {', '.join(ids[:3])}{more} failed: {failure['reason']}")
    if len(failures) > _REASONS:
        _say(f"{name}: {len(failures) - _REASONS} more reasons; `mer status --json` lists all")


def stored(project: Project) -> Json:
    """Return what the store holds for the project, and what it holds besides."""
    results = feature_results(project.pipeline, project.manifest, project.store)
    return {
        "store": str(project.store.path),
        "current": [
            {
                "name": result.name,
                "kind": result.kind,
                "fingerprint": result.fingerprint,
                "done": result.samples,
                "samples": len(project.manifest.samples),
                "failed": len(result.failed),
                "failures": _reasons(dict(result.failed)),
                "dim": result.dim,
            }
            for result in results
        ],
        "superseded": [
            _superseded(collection, project.store)
            for collection in superseded(project.pipeline, project.store)
        ],
    }


def _superseded(collection: Collection, store: Store) -> Json:
    return {
        "name": f"{collection.group}/{collection.name}@{collection.fingerprint}",
        "samples": len(collection.entries()),
        "bytes": store.size(collection),
    }


def print_stored(about: Json) -> None:
    """Print a table of the current features; what is superseded below it."""
    table = _table("name", "kind", "fingerprint", "dim", "done", "failed")
    for row in about["current"]:
        done = f"{row['done']} of {row['samples']}"
        _add(
            table, row["name"], row["kind"], row["fingerprint"], row["dim"] or "", done,
            row["failed"] or "",
        )  # fmt: skip
    _print(table)
    for row in about["current"]:
        _print_reasons(row["name"], row["failures"])
    for row in about["superseded"]:
        _say(f"superseded: {row['name']}, {row['samples']} samples, {_megabytes(row['bytes'])}")


def print_stale(stale: Sequence[Collection], store: Store) -> None:
    """Print what prune deletes."""
    for collection in stale:
        row = _superseded(collection, store)
        _say(f"{row['name']}: {row['samples']} samples, {_megabytes(row['bytes'])}")
    if not stale:
        _say("nothing to delete: the registry describes all that the store holds")


def trained(results: Sequence[BranchResult], new: Sequence[str]) -> list[Json]:
    """Return the scores of the branches."""
    return [
        {
            "branch": result.name,
            "features": list(result.features),
            "fusion": result.fusion,
            "fold_waf": list(result.fold_waf),
            "filled": result.filled,
            "seconds": round(result.seconds, 3),
            "trained_now": result.name in new,
        }
        for result in results
    ]


def print_trained(about: Sequence[Json]) -> None:
    """Print one row a branch."""
    table = _table("branch", "features", "fusion", "WAF of the folds", "seconds", "")
    for row in about:
        folds = " ".join(f"{score:.3f}" for score in row["fold_waf"])
        note = "" if row["trained_now"] else "up to date"
        features = " + ".join(row["features"])
        _add(table, row["branch"], features, row["fusion"], folds, f"{row['seconds']:.1f}", note)
    _print(table)


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


def print_decided(about: Json) -> None:
    """Print the counts and where the predictions are."""
    for split, counts in about["decided"].items():
        _say(f"{split}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    _say(f"Predictions: {about['predictions']}")


def print_report(report: Mapping[str, JsonValue], page: Path) -> None:
    """Print the scores and the path of the HTML report."""
    table = _table("branch", "split", "WAF", "95% interval", "accuracy")
    for row in summary_table(report):
        interval = f"{row.low:.3f} to {row.high:.3f}"
        split = "train (cross-validated)" if row.split == "train" else row.split
        _add(table, row.branch, split, f"{row.waf:.4f}", interval, f"{row.accuracy:.4f}")
    _print(table)
    _say(f"Predictions: {page.with_name('predictions.csv')}")
    _say(f"Report: {page}")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))


def _print(table: Table) -> None:
    Console().print(table)


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(escape(text))
