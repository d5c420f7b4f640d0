"""A registry, a manifest, a store and a run folder together: what the commands work on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore import branches
from mercore.components import Decision, IntArray, Votes
from mercore.errors import PluginError, RegistryError, RunError
from mercore.extract import Machine, Outcome, Silent, Watch, extract
from mercore.folder import RunFolder
from mercore.manifest import Manifest
from mercore.media import FloatArray
from mercore.metrics import waf
from mercore.pipeline import BranchNode, Node, Pipeline, describe, fingerprint
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.report import build, render
from mercore.results import BranchResult, ManifestResult, Result
from mercore.status import feature_results
from mercore.store import Entry, Store
from mercore.threads import limited


@dataclass(frozen=True)
class Project:
    """One experiment on one set of samples."""

    pipeline: Pipeline
    manifest: Manifest
    store: Store
    folder: RunFolder
    machine: Machine
    watch: Watch

    @classmethod
    def open(
        cls,
        registry: str | Path = "registry.yaml",
        manifest: str | Path = "manifest.csv",
        store: str | Path = "mer.zarr",
        out: str | Path = "runs/default",
        create: bool = False,
        machine: Machine | None = None,
        watch: Watch | None = None,
    ) -> Project:
        """Return the project; raises a MercoreError with all mistakes of a file at once."""
        read = Registry.read(registry)
        pipeline = Pipeline.resolve(read, Plugins())
        samples = Manifest.read(manifest, pipeline.classes)
        pipeline.check_media(samples)
        folder = RunFolder(Path(out))
        return cls(
            pipeline,
            samples,
            Store(store, create=create),
            folder,
            machine or Machine(),
            watch or Silent(),
        )

    @property
    def ids(self) -> list[str]:
        """The sample ids in the order of the manifest."""
        return [sample.id for sample in self.manifest.samples]

    @cached_property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where unlabelled."""
        return branches.label_indices(self.manifest, self.pipeline.classes)

    @cached_property
    def trainable(self) -> NDArray[np.bool_]:
        """``(samples,)``: labelled samples of the train split."""
        return branches.trainable(self.manifest.samples, self.labels)

    def extract(self, names: Iterable[str] = (), *, retry_failed: bool = False) -> list[Outcome]:
        """Bring the store up to date; see ``mercore.extract.extract``."""
        return extract(
            self.pipeline,
            self.manifest,
            self.store,
            self.machine,
            names=names,
            retry_failed=retry_failed,
            watch=self.watch,
        )

    def train(self) -> list[str]:
        """Train the branches that are not up to date; return their names."""
        self.check_trainable()
        keys = self._keys()
        stale = [name for name, key in keys.items() if not self.folder.branch(name, key)]
        if not stale:
            return []
        content = self.pipeline.registry.content
        data = branches.dataset(self.pipeline, self.manifest, self.store)
        folds = branches.assign_folds(data, content.folds, content.seed, self.pipeline.classes)
        self.folder.save_folds(self.manifest.samples, folds)
        self.watch.start("branches", len(stale))
        # One thread: the steps of a fusion are too small to share, and the sums of its products
        # come out the same on any number of cores.
        with limited(1):
            for name in stale:
                if not self.folder.branch(name, keys[name]):  # another run may have been faster
                    self._train(self.pipeline.branches[name], keys[name], data, folds)
                self.watch.advance("branches", 1, 0)
        return stale

    def check_trainable(self) -> None:
        """Raise a MercoreError when the branches could not be trained once all is extracted."""
        self._check_branches()
        branches.check_trainable(
            self.labels[self.trainable],
            self.pipeline.registry.content.folds,
            self.pipeline.classes,
        )

    def _check_branches(self) -> None:
        if not self.pipeline.branches:
            raise RegistryError("the registry declares no branches; add 'branches:' to train")

    def _train(self, branch: BranchNode, key: str, data: branches.Dataset, folds: IntArray) -> None:
        trained = branches.train(
            branch,
            data,
            folds,
            classes=len(self.pipeline.classes),
            device=self.machine.chosen_device(),
            seed=self.pipeline.registry.content.seed,
        )
        about: dict[str, JsonValue] = {
            "key": key,
            "features": list(branch.features),
            "fusion": describe(branch.fusion),
        }
        self.folder.save_branch(branch.name, about, trained, self.ids, self.pipeline.classes)

    def ensemble(self) -> Decision:
        """Return the decision on every sample, from the stored tables; write predictions.csv."""
        return self._decide(self.branch_results(), self.missing())

    def _decide(
        self, results: Sequence[BranchResult], missing: Sequence[Sequence[str]]
    ) -> Decision:
        scores = [self._validation_waf(result.probabilities) for result in results]
        votes = Votes(
            tuple(result.name for result in results),
            np.stack([result.probabilities for result in results]),
            np.array(scores, np.float32),
        )
        decision = self.pipeline.ensemble.decide(votes)
        _check_decision(decision, votes, self.pipeline.ensemble.name)
        ballots = {result.name: result.probabilities.argmax(axis=1) for result in results}
        self.folder.save_predictions(
            self.manifest.samples, self.pipeline.classes, decision, ballots, missing
        )
        return decision

    def missing(self) -> list[list[str]]:
        """Return, for each sample, the features of the branches that it lacks."""
        found = {name: self._entries(name) for name in self.pipeline.used}
        return [
            [
                name
                for name, entries in found.items()
                if sample.id not in entries or entries[sample.id].failed is not None
            ]
            for sample in self.manifest.samples
        ]

    def _entries(self, feature: str) -> Mapping[str, Entry]:
        node = self.pipeline.features[feature]
        collection = self.store.collection("features", feature, node.fingerprint)
        return collection.entries() if collection else {}

    def report(self) -> tuple[dict[str, JsonValue], Path]:
        """Return report.json's content and the path of the HTML; write both."""
        results, missing = self.branch_results(), self.missing()
        decision = self._decide(results, missing)
        report = build(self._result(results, decision, missing))
        self.folder.save_json("report.json", report)
        self.folder.save("registry.yaml", self.pipeline.registry.document.text)
        return report, self.folder.save("report.html", render(report))

    def branch_results(self) -> list[BranchResult]:
        """Return what the trained branches predicted; raises RunError for one out of date."""
        self._check_branches()
        keys = self._keys()
        return [
            self._branch_result(branch, keys[name])
            for name, branch in self.pipeline.branches.items()
        ]

    def _branch_result(self, branch: BranchNode, key: str) -> BranchResult:
        about = self.folder.branch(branch.name, key)
        if about is None:
            raise RunError(
                f"{self.folder.path}: branch {branch.name!r} is not trained on what the registry, "
                "the manifest and the store hold now; run `mer train`"
            )
        return BranchResult(
            name=branch.name,
            features=branch.features,
            fusion=branch.fusion.name,
            options=branch.fusion.model_dump(mode="json"),
            probabilities=self.folder.probabilities(
                branch.name, self.ids, len(self.pipeline.classes)
            ),
            fold_waf=tuple(score for score in about["fold_waf"] if score is not None),
            filled=about["filled"],
            seconds=about["seconds"],
        )

    def _validation_waf(self, probabilities: FloatArray) -> float:
        predicted = probabilities[self.trainable].argmax(axis=1)
        return waf(self.labels[self.trainable], predicted, len(self.pipeline.classes))

    def _keys(self) -> dict[str, str]:
        """Return a hash of all that decides a branch: features, samples, labels, options."""
        content = self.pipeline.registry.content
        features = {name: self._feature_key(name) for name in self.pipeline.used}
        common: dict[str, JsonValue] = {
            "classes": list(self.pipeline.classes),
            "samples": self._samples_key,
            "folds": content.folds,
            "seed": content.seed,
        }
        return {
            name: fingerprint(
                common
                | {
                    "features": {feature: features[feature] for feature in branch.features},
                    "fusion": describe(branch.fusion),
                }
            )
            for name, branch in self.pipeline.branches.items()
        }

    @cached_property
    def _samples_key(self) -> str:
        rows = [(sample.id, sample.split, sample.label) for sample in self.manifest.samples]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def _feature_key(self, name: str) -> str:
        entries = self._entries(name)
        found = hashlib.sha256(self.pipeline.features[name].fingerprint.encode())
        for identifier in self.ids:
            entry = entries.get(identifier)
            found.update(f"{identifier}\0{entry and (entry.source, entry.failed)}\0".encode())
        return found.hexdigest()

    def _result(
        self,
        results: Sequence[BranchResult],
        decision: Decision,
        missing: Sequence[Sequence[str]],
    ) -> Result:
        registry = self.pipeline.registry.document
        return Result(
            title=f"{self.folder.path.name}: {registry.path.name} on {self.manifest.path.name}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=self.pipeline.classes,
            ids=tuple(self.ids),
            splits=tuple(sample.split for sample in self.manifest.samples),
            labels=self.labels,
            branches=tuple(results),
            ensemble=self.pipeline.ensemble.name,
            decision=decision,
            features=tuple(feature_results(self.pipeline, self.manifest, self.store)),
            registry=registry.text,
            manifest=ManifestResult(
                self.manifest.path.name, len(self.manifest.samples), self.manifest.notes
            ),
            versions=versions(self.pipeline),
            warnings=tuple(warnings_of(self, missing)),
        )


def _check_decision(decision: Decision, votes: Votes, name: str) -> None:
    """Raise PluginError when an ensemble's decision is not one class a sample."""
    _, samples, classes = votes.probabilities.shape
    labels = decision.labels
    if labels.shape != (samples,) or labels.min() < 0 or labels.max() >= classes:
        raise PluginError(f"ensemble {name!r} must decide one of {classes} classes a sample")
    if decision.probabilities.shape != (samples, classes) or decision.support.shape != (samples,):
        raise PluginError(f"ensemble {name!r} gave probabilities or support of another shape")


def versions(pipeline: Pipeline) -> dict[str, str]:
    """Return the versions of what computed the results."""
    parts: list[Node | BranchNode] = [*pipeline.nodes.values(), *pipeline.branches.values()]
    plugins = dict(origin.rsplit(" ", 1) for origin in sorted(part.origin for part in parts))
    libraries = [name for name in ("numpy", "scikit-learn", "torch", "zarr") if _installed(name)]
    return {"mercore": version("mercore")} | plugins | {name: version(name) for name in libraries}


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def warnings_of(project: Project, missing: Sequence[Sequence[str]]) -> list[str]:
    """Return what a reader of the report must know; `missing` are the features samples lack."""
    content = project.pipeline.registry.content
    counts = np.bincount(project.labels[project.trainable], minlength=len(content.classes))
    mining = ["'mining:' is read but not carried out yet"] if content.mining else []
    used = len(project.pipeline.used)
    lacking = zip(project.ids, missing, strict=True)
    blind = [identifier for identifier, names in lacking if len(names) == used]
    lost = [
        f"{len(blind)} samples lack every feature and are predicted from training means alone: "
        f"{', '.join(blind[:5])}{', ...' if len(blind) > 5 else ''}"
    ]
    return (
        mining
        + (lost if blind else [])
        + [
            f"class {name!r} has {count} training samples: fewer than the {content.folds} folds"
            for name, count in zip(content.classes, counts.tolist(), strict=True)
            if count < content.folds
        ]
    )
