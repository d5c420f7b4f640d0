"""What each feature adds: a branch of every combination of them, side by side (Table 4).

The branches are trained like those of the registry, by the same folds and seed, and kept in a
folder of their own. What comes out is ablation.json, ``format`` 1:

- ``classes``, ``folds``, ``seed``, ``synthetic``; ``fusion`` and its ``options``;
- ``features``: name to ``uses``, ``dim``, ``reads`` (the streams it reads itself) and ``upstream``
  (those and all that they are made from, the nearest first);
- ``splits``: those that have labels; ``draws`` of the paired bootstrap;
- ``rows``: the highest cross-validated WAF first, each with ``features``, ``filled``, ``seconds``,
  the ``key`` of all that decides it, ``scores`` and ``behind``;
- ``scores``: split to ``waf``, ``low``, ``high`` (its 95% bootstrap interval) and ``accuracy``;
- ``behind``: the cross-validated WAF minus that of the first row, ``waf``, ``low``, ``high`` (95%
  paired bootstrap interval), ``p``, and ``p_holm``, adjusted for the number of rows; null in the
  first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mercore.ablated import is_ablation
from mercore.combinations import Combination
from mercore.components import Fusion
from mercore.dataset import feature_entries
from mercore.errors import PluginError, RegistryError, RunError, few
from mercore.fingerprints import branch_keys
from mercore.manifest import TRAIN
from mercore.metrics import accuracy, bootstrap, waf
from mercore.pipeline import BranchNode
from mercore.plugins import Plugins
from mercore.results import BranchResult
from mercore.significance import holm, paired_bootstrap
from mercore.status import feature_results
from mercore.training import Training

if TYPE_CHECKING:
    from mercore.project import Project

Table = dict[str, Any]
"""The content of ablation.json."""

Keys = Mapping[str, str]
Mask = NDArray[np.bool_]

FILE = "ablation.json"
FORMAT = 1
_DRAWS = 5_000
_DRAWS_A_ROW = 50  # else no difference could be significant among very many rows


def ablate(
    project: Project, chosen: Sequence[Combination], fusion: str | None = None
) -> tuple[Table, list[str]]:
    """Return ablation.json, which is written too, and the names of the branches trained for it.

    `fusion` is a component's name; without one it is the registry's common fusion. A combination
    that is a branch of the run already, by the same fusion, is taken from there. Raises RunError
    before anything is trained where no training sample has all features of a combination.
    """
    ablation = _ablation(project, chosen, fusion)
    ablation.check_trainable()
    _check_complete(ablation)
    keys = _keys(ablation)
    _take_over(project, ablation, keys)
    trained = Training(ablation).first()
    table = _table(ablation, keys)
    project.folder.save_json(FILE, table)
    return table, trained


def current(project: Project) -> Table | None:
    """Return ablation.json; None where there is none, or it is not what would come out now."""
    table = project.folder.read_json(FILE)
    if not table or table.get("format") != FORMAT or not is_ablation(table):
        return None
    chosen = [tuple(row["features"]) for row in table["rows"]]
    if not set().union(*chosen) <= set(project.pipeline.features):
        return None
    try:
        ablation = _ablation(project, chosen, table["fusion"])
    except (PluginError, RegistryError):  # the fusion is not installed, or has other options
        return None
    kept = [row["key"] for row in table["rows"]]
    return table if kept == list(_keys(ablation).values()) else None


def _ablation(
    project: Project, chosen: Sequence[Combination], fusion: str | None = None
) -> Project:
    """Return the project whose branches are the combinations, in a folder of its own."""
    common = project.pipeline.registry.content.fusion
    uses = fusion or common.uses
    plugins = Plugins()
    built = plugins.build(Fusion, uses, common.with_ if uses == common.uses else {})
    _check_frames(project, built, set().union(*chosen))
    origin = plugins.provided("fusion", uses).origin
    suffix = "" if uses == common.uses else f"@{uses}"
    nodes = [
        BranchNode("+".join(features) + suffix, features, built, origin) for features in chosen
    ]
    pipeline = replace(project.pipeline, branches={node.name: node for node in nodes})
    return replace(project, pipeline=pipeline, folder=project.folder.ablation)


def _check_frames(project: Project, fusion: Fusion, names: set[str]) -> None:
    vectors = [n for n, node in project.pipeline.features.items() if n in names and not node.frames]
    if vectors and fusion.most_frames is not None:
        raise RegistryError(
            f"{project.pipeline.registry.document.path}: fusion {fusion.name!r} reads the frames "
            f"of {', '.join(vectors)}, of which vectors alone are kept; add 'frames: true' to "
            "them, or name other features"
        )


def _check_complete(project: Project) -> None:
    samples = [project.manifest.samples[i] for i in np.flatnonzero(_labelled(project)[TRAIN])]
    present = {
        name: np.array([one.id not in entries or not entries[one.id].failed for one in samples])
        for name, entries in feature_entries(project.pipeline, project.store).items()
    }
    nodes = project.pipeline.branches.values()
    bad = [
        node.features
        for node in nodes
        if not (np.any if node.fusion.masks_missing else np.all)(
            [present[name] for name in node.features], axis=0
        ).any()
    ]
    if bad:
        named = few([" + ".join(features) for features in bad])
        raise RunError(
            f"no training sample has all features of {named}; name other features, or "
            "combinations with --only (`mer status` shows what failed)"
        )


def _keys(project: Project) -> Keys:
    entries = feature_entries(project.pipeline, project.store)
    return branch_keys(project.pipeline, project.manifest, entries)


def _take_over(project: Project, ablation: Project, keys: Keys) -> None:
    """Copy the branches of the run that are what a combination would be trained to."""
    there = {
        (project.folder.trained(name) or {}).get("key"): name for name in project.pipeline.branches
    }
    for name, key in keys.items():
        source = there.get(key)
        if source and not ablation.folder.branch(name, key):
            ablation.folder.copy_branch(name, project.folder, source)


def _table(project: Project, keys: Keys) -> Table:
    content, pipeline = project.pipeline.registry.content, project.pipeline
    fusion = next(iter(pipeline.branches.values())).fusion
    results = sorted(
        project.first_results(), key=lambda one: (-one.waf, len(one.features), one.name)
    )
    return {
        "format": FORMAT,
        "classes": list(pipeline.classes),
        "folds": content.folds,
        "seed": content.seed,
        "synthetic": project.manifest.notes.get("synthetic", "").lower() == "true",
        "fusion": fusion.name,
        "options": fusion.model_dump(mode="json"),
        "features": _features(project),
        "splits": list(_labelled(project)),
        "draws": _draws(results),
        "rows": _rows(project, results, keys),
    }


def _features(project: Project) -> dict[str, Any]:
    about = feature_results(project.pipeline, project.manifest, project.store)
    return {
        one.name: {
            "uses": one.uses,
            "dim": one.dim,
            "reads": list(project.pipeline.features[one.name].inputs.values()),
            "upstream": project.pipeline.upstream(one.name),
        }
        for one in about
        if one.name in project.pipeline.used
    }


def _rows(project: Project, results: Sequence[BranchResult], keys: Keys) -> list[dict[str, Any]]:
    masks = _labelled(project)
    return [
        {
            "features": list(result.features),
            "filled": result.filled,
            "seconds": result.seconds,
            "key": keys[result.name],
            "scores": {split: _score(project, result, rows) for split, rows in masks.items()},
            "behind": difference,
        }
        for result, difference in zip(results, _behind(project, results, masks[TRAIN]), strict=True)
    ]


def _labelled(project: Project) -> dict[str, Mask]:
    """Return the labelled samples of each split that has some, in the order of the manifest."""
    splits, labelled = np.array(project.manifest.table["split"]), project.labels >= 0
    names = dict.fromkeys(splits[labelled].tolist())
    return {name: labelled & (splits == name) for name in names}


def _score(project: Project, result: BranchResult, rows: Mask) -> dict[str, float]:
    labels, classes = project.labels[rows], len(project.pipeline.classes)
    decided = result.labels[rows]
    low, high = bootstrap(waf, labels, decided, classes)
    right = accuracy(labels, decided, classes)
    return {"waf": waf(labels, decided, classes), "low": low, "high": high, "accuracy": right}


def _behind(
    project: Project, results: Sequence[BranchResult], rows: Mask
) -> list[dict[str, float] | None]:
    """Return how far each result is behind the first on the samples, which has None."""
    labels, classes = project.labels[rows], len(project.pipeline.classes)
    best, *others = (result.labels[rows] for result in results)
    draws = _draws(results)
    found = [paired_bootstrap(waf, labels, one, best, classes, draws=draws) for one in others]
    adjusted = holm([difference.p for difference in found])
    rest = [
        {"waf": one.value, "low": one.low, "high": one.high, "p": one.p, "p_holm": p}
        for one, p in zip(found, adjusted, strict=True)
    ]
    return [None, *rest]


def _draws(results: Sequence[BranchResult]) -> int:
    return max(_DRAWS, _DRAWS_A_ROW * len(results))
