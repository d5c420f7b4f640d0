"""Everything there is to know of a name of the registry: what makes it, and what it came to.

Beside the lineages of streams and features (``mercore.lineage``):

- a branch has ``features``, their lineages; ``classes``, ``folds``, ``seed``; and ``run``:
  ``folder``, ``state`` (``not trained``, ``up to date``, ``stale``, or ``trained`` where no more
  can be told), ``why`` it is stale, ``waf``, ``fold_waf``, ``seconds``, ``filled``, ``versions``
  (of what trained it; ``now``: of what is installed) and ``rounds``, the WAF after each round of
  data mining;
- the ensemble has ``branches``, each with ``name``, ``state`` and ``waf``, and ``run``: the
  ``predictions`` of the run folder, and ``scores``, the WAF of each split in its report.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError

from mercore.dataset import feature_entries
from mercore.errors import ManifestError, RegistryError, did_you_mean
from mercore.fingerprints import branch_keys
from mercore.folder import RunFolder
from mercore.lineage import Json, Known, about, lineage
from mercore.manifest import Manifest
from mercore.packages import versions
from mercore.pipeline import BranchNode
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.search import with_found
from mercore.staleness import reasons
from mercore.store import Store

ENSEMBLE = "ensemble"
UNTRAINED, CURRENT, STALE, TRAINED = "not trained", "up to date", "stale", "trained"


class _Score(BaseModel):
    waf: FiniteFloat


class _Scores(BaseModel):
    scores: dict[str, _Score]


class _Report(BaseModel):
    """What of report.json is shown."""

    ensemble: _Scores


def known_of(
    registry: str | Path,
    manifest: str | Path | None,
    store: str | Path,
    endpoint: str | None,
    out: str | Path,
) -> Known:
    """Return what there is of an experiment: a store that is not there is no error."""
    folder = RunFolder(Path(out))
    pipeline = with_found(resolve(Registry.read(registry), Plugins()), folder)
    samples = Manifest.read(manifest, pipeline.classes, bare=pipeline.bare) if manifest else None
    return Known(pipeline, samples, Store.find(store, endpoint=endpoint), folder)


def of_sample(known: Known, id: str) -> Known:
    """Return the same for one sample; raises ManifestError where there is no such sample."""
    if known.manifest is None:
        raise ManifestError(f"no manifest to look up sample {id!r} in; name one with --manifest")
    found = [sample for sample in known.manifest.samples if sample.id == id]
    if not found:
        hint = did_you_mean(id, known.manifest.ids)
        raise ManifestError(f"{known.manifest.path} has no sample {id!r}{hint}")
    return replace(known, sample=found[0])


def explain(name: str, known: Known) -> list[Json]:
    """Return what there is to know of a stream, a feature, a branch, or ``ensemble``.

    A feature and a branch may have one name: then both. Raises RegistryError for a name that the
    registry does not have.
    """
    pipeline = known.pipeline
    found = []
    if name in pipeline.nodes:
        found.append(lineage(pipeline.nodes[name], known))
    if name in pipeline.branches:
        found.append(_branch(pipeline.branches[name], known))
    if name == ENSEMBLE:
        found.append(_ensemble(known))
    if not found:
        hint = did_you_mean(name, [*pipeline.nodes, *pipeline.branches, ENSEMBLE])
        raise RegistryError(
            f"{pipeline.registry.document.path} has no stream, feature or branch {name!r}{hint}"
        )
    return found


def _branch(branch: BranchNode, known: Known) -> Json:
    content = known.pipeline.registry.content
    declared = content.branches[branch.name]
    same = declared.uses in (None, content.fusion.uses)
    given = {*declared.with_, *(content.fusion.with_ if same else ())}
    return {
        "kind": "branch",
        "name": branch.name,
        "line": known.pipeline.registry.document.lines.get(("branches", branch.name)),
        **about(branch.fusion, branch.origin, given, branch.found),
        "classes": list(content.classes),
        "folds": content.folds,
        "seed": content.seed,
        "features": [lineage(known.pipeline.features[name], known) for name in branch.features],
        "run": _run(branch, known),
    }


def _run(branch: BranchNode, known: Known) -> Json:
    trained = known.folder.trained(branch.name)
    state, why = _state(branch, known, trained)
    scores = trained or {}
    keys = ("waf", "fold_waf", "seconds", "filled", "versions")
    now = versions(known.pipeline.origins(branch))
    return {
        "folder": str(known.folder.path),
        "state": state,
        "why": why,
        **{key: scores.get(key) for key in keys},
        "now": now,
        "rounds": _rounds(branch.name, known),
    }


def _state(
    branch: BranchNode, known: Known, trained: dict[str, Any] | None
) -> tuple[str, list[Json]]:
    """Return whether a branch is trained on what there is now, and why not."""
    if trained is None:
        return UNTRAINED, []
    pipeline, store, manifest = known.pipeline, known.store, known.manifest
    if store and manifest:
        keys = branch_keys(pipeline, manifest, feature_entries(pipeline, store))
        if trained.get("key") == keys[branch.name]:
            return CURRENT, []
    why = reasons(branch, pipeline, known.folder, store, manifest if store else None)
    return STALE if why else TRAINED, [asdict(change) for change in why]


def _rounds(branch: str, known: Known) -> list[float]:
    """Return the WAF of the branch after each round of mining that stands."""
    last = known.folder.last_round(list(known.pipeline.branches))
    mined = known.folder.read_json("mining/mining.json") if last else None
    count = mined["rounds"] if mined else 0
    found = [known.folder.round(number).trained(branch) for number in range(1, count + 1)]
    return [trained["waf"] for trained in found if trained]


def _ensemble(known: Known) -> Json:
    pipeline, content = known.pipeline, known.pipeline.registry.content
    ensemble = pipeline.ensemble
    origin = Plugins().provided("ensemble", ensemble.name).origin
    runs = {name: _run(branch, known) for name, branch in pipeline.branches.items()}
    predictions = known.folder.path / "predictions.csv"
    return {
        "kind": ENSEMBLE,
        "name": ENSEMBLE,
        "line": pipeline.registry.document.lines.get((ENSEMBLE,)),
        **about(ensemble, origin, content.ensemble.with_),
        "branches": [
            {"name": name, "state": run["state"], "waf": run["waf"]} for name, run in runs.items()
        ],
        "run": {
            "folder": str(known.folder.path),
            "predictions": str(predictions) if predictions.exists() else None,
            "scores": _scores(known.folder),
        },
    }


def _scores(folder: RunFolder) -> dict[str, float]:
    """Return the WAF of each split in the report of the run, none where there is no such report."""
    try:
        report = _Report.model_validate(folder.read_json("report.json"))
    except ValidationError:
        return {}
    return {split: score.waf for split, score in report.ensemble.scores.items()}
