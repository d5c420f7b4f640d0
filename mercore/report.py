"""The report of a run: ``build`` turns a `Result` into report.json, ``render`` that into HTML.

Keys of report.json (``format`` 1); what cannot be computed is left out or null, never 0:

- ``title``, ``created``, ``classes``, ``synthetic``, ``registry``, ``versions``, ``warnings``;
- ``manifest``: ``path``, ``rows``, ``notes``;
- ``splits``: a list of ``name``, ``samples``, ``labelled``, ``cross_validated``, ``support``
  (labelled samples a class), ``decided`` (decisions a class) and ``baselines``: WAF of always
  saying the most frequent training ``class`` (``majority``) and of guessing classes as often as
  they occur in training (``chance``); null without labels;
- ``ensemble``: ``uses`` and ``scores``; ``branches``: a list of ``name``, ``features``,
  ``fusion``, ``options``, ``fold_waf``, ``filled``, ``seconds`` and ``scores``;
- ``scores``: labelled split to ``waf``, ``low``, ``high`` (95% bootstrap interval of the WAF),
  ``accuracy``, ``macro_f1``, ``confusion`` (counts, true class by row) and ``precision``,
  ``recall``, ``f1``, each a list in class order;
- ``mining``: a list of rounds, the first without pseudo-labels, of the keys of ``rounds.mined``;
- ``agreement``: share of equal labels, a row and a column a branch;
- ``ablation``: the content of ablation.json as ``mercore.ablation`` says, or null;
- ``features``: a list of ``name``, ``kind``, ``uses``, ``fingerprint``, ``dim``, ``samples``,
  ``failed``, ``failures`` (``reason``, ``samples``, first ``ids``), ``failures_left_out``,
  ``seconds``, ``rate`` (samples a second), ``decode``, ``encode``, ``write``, ``slowest`` (of
  those three) and ``faster`` (what makes it faster), both ``""`` if unknown, ``records``;
- ``samples``: ``total`` and ``rows``, the first few hundred, training samples last;
  ``uncertain``: the decisions with the least support. A row has ``id``, ``split``, ``label``
  (null: unlabelled), ``decided``, ``probability``, ``support``, ``second``, ``branches``, and
  where it can be looked at: ``clip``, a link from the report to the file, and ``words``, or null.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.listing import first, rows, uncertain
from mercore.metrics import accuracy, bootstrap, confusion, macro_f1, per_class, waf
from mercore.page import render
from mercore.results import FASTER, BranchResult, FeatureResult, ManifestResult, Result

__all__ = [
    "BranchResult",
    "FeatureResult",
    "ManifestResult",
    "Result",
    "SummaryRow",
    "build",
    "render",
    "summary_table",
]

Mask = NDArray[np.bool_]

REASONS = 50
FAILED_IDS = 20


class SummaryRow(NamedTuple):
    """One score for the terminal."""

    branch: str
    split: str
    waf: float
    low: float
    high: float
    accuracy: float


def build(result: Result) -> dict[str, JsonValue]:
    """Return report.json: plain JSON values under the keys listed at the top of this module."""
    notes = result.manifest.notes
    manifest = {"path": result.manifest.path, "rows": result.manifest.rows, "notes": dict(notes)}
    return {
        "format": 1,
        "title": result.title,
        "created": result.created,
        "synthetic": notes.get("synthetic", "").lower() == "true",
        "classes": list(result.classes),
        "manifest": cast(JsonValue, manifest),
        "splits": [_split(result, name) for name in dict.fromkeys(result.splits)],
        "ensemble": {"uses": result.ensemble, "scores": _scores(result, result.decision.labels)},
        "branches": [_branch(result, branch) for branch in result.branches],
        "mining": [dict(row) for row in result.mining],
        "agreement": _agreement(result.branches),
        "ablation": dict(result.ablation) if result.ablation else None,
        "features": [_feature(feature) for feature in result.features],
        "samples": {"total": len(result.ids), "rows": rows(result, first(result))},
        "uncertain": rows(result, uncertain(result)),
        "registry": result.registry,
        "versions": dict(result.versions),
        "warnings": list(result.warnings),
    }


def summary_table(report: Mapping[str, JsonValue]) -> list[SummaryRow]:
    """Return one row a labelled split and branch, each split closed by the ensemble."""
    body = cast(Any, report)
    predictors = [*body["branches"], {"name": "ensemble", **body["ensemble"]}]
    return [
        SummaryRow(
            one["name"], split, *(one["scores"][split][key] for key in SummaryRow._fields[2:])
        )
        for split in body["ensemble"]["scores"]
        for one in predictors
    ]


def _split(result: Result, name: str) -> JsonValue:
    inside = np.array(result.splits) == name
    labels = result.labels[inside]
    support = _count(labels[labels >= 0], result)
    return {
        "name": name,
        "samples": int(inside.sum()),
        "labelled": int(support.sum()),
        "cross_validated": name == "train",
        "support": support.tolist(),
        "decided": _count(result.decision.labels[inside], result).tolist(),
        "baselines": _baselines(result, support),
    }


def _baselines(result: Result, support: IntArray) -> JsonValue:
    """Return the WAF that needs no features, from the confusion matrix to be expected."""
    train = (np.array(result.splits) == "train") & (result.labels >= 0)
    frequency = _count(result.labels[train], result)
    if not (support.any() and frequency.any()):
        return None
    most = int(frequency.argmax())
    always = np.outer(support, np.arange(len(frequency)) == most)
    guessed = np.outer(support, frequency / frequency.sum())
    return {
        "class": result.classes[most],
        "majority": float(waf.of(always)),
        "chance": float(waf.of(guessed)),
    }


def _count(labels: IntArray, result: Result) -> IntArray:
    counts: IntArray = np.bincount(labels, minlength=len(result.classes)).astype(np.int64)
    return counts


def _branch(result: Result, branch: BranchResult) -> JsonValue:
    return {
        "name": branch.name,
        "features": list(branch.features),
        "fusion": branch.fusion,
        "options": dict(branch.options),
        "fold_waf": [float(score) for score in branch.fold_waf],
        "filled": branch.filled,
        "seconds": branch.seconds,
        "scores": _scores(result, branch.labels),
    }


def _scores(result: Result, predicted: IntArray) -> JsonValue:
    """Return the scores of every split that has labels, in the order of the manifest."""
    splits = np.array(result.splits)
    labelled = result.labels >= 0
    return {
        str(name): _score(result, predicted, labelled & (splits == name))
        for name in dict.fromkeys(splits[labelled].tolist())
    }


def _score(result: Result, predicted: IntArray, chosen: Mask) -> JsonValue:
    labels, predicted, classes = result.labels[chosen], predicted[chosen], len(result.classes)
    low, high = bootstrap(waf, labels, predicted, classes)
    by_class = per_class(labels, predicted, classes)
    return {
        "waf": waf(labels, predicted, classes),
        "low": low,
        "high": high,
        "accuracy": accuracy(labels, predicted, classes),
        "macro_f1": macro_f1(labels, predicted, classes),
        "precision": by_class.precision.tolist(),
        "recall": by_class.recall.tolist(),
        "f1": by_class.f1.tolist(),
        "confusion": confusion(labels, predicted, classes).tolist(),
    }


def _agreement(branches: tuple[BranchResult, ...]) -> JsonValue:
    labels = [branch.labels for branch in branches]
    return [[float(np.mean(one == other)) for other in labels] for one in labels]


def _feature(feature: FeatureResult) -> JsonValue:
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for sample, reason in feature.failed:
        by_reason[reason].append(sample)
    common = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return {
        "name": feature.name,
        "kind": feature.kind,
        "uses": feature.uses,
        "fingerprint": feature.fingerprint,
        "dim": feature.dim,
        "samples": feature.samples,
        "failed": len(feature.failed),
        "failures": [
            {"reason": reason, "samples": len(ids), "ids": list(ids[:FAILED_IDS])}
            for reason, ids in common[:REASONS]
        ],
        "failures_left_out": sum(len(ids) for _, ids in common[REASONS:]),
        "seconds": feature.seconds,
        "rate": feature.samples / feature.seconds if feature.seconds > 0 else None,
        "decode": feature.decode,
        "encode": feature.encode,
        "write": feature.write,
        "slowest": feature.slowest,
        "faster": FASTER.get(feature.slowest, ""),
        "records": dict(feature.records),
    }
