"""A registry, a manifest, a store and a run folder together: what the commands work on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mercore import branches
from mercore.components import Decision, IntArray
from mercore.dataset import (
    Dataset,
    feature_entries,
    label_indices,
    lacking,
    read_dataset,
    trainable,
)
from mercore.errors import RegistryError, RunError
from mercore.fingerprints import branch_keys, describe
from mercore.folder import RunFolder
from mercore.machine import Machine, limited
from mercore.manifest import Manifest
from mercore.pipeline import BranchNode, Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.results import BranchResult, votes
from mercore.store import Store
from mercore.voting import decide
from mercore.watch import Silent, Watch

if TYPE_CHECKING:
    from mercore.extraction import Outcome


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
        endpoint: str | None = None,
        out: str | Path = "runs/default",
        create: bool = False,
        machine: Machine | None = None,
        watch: Watch | None = None,
    ) -> Project:
        """Return the project; raises a MercoreError with all mistakes of a file at once."""
        pipeline = resolve(Registry.read(registry), Plugins())
        samples = Manifest.read(manifest, pipeline.classes)
        pipeline.check_media(samples)
        return cls(
            pipeline,
            samples,
            Store(store, create=create, endpoint=endpoint),
            RunFolder(Path(out)),
            machine or Machine(),
            watch or Silent(),
        )

    @property
    def ids(self) -> Sequence[str]:
        """The sample ids in the order of the manifest."""
        return self.manifest.ids

    @cached_property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where unlabelled."""
        return label_indices(self.manifest.samples, self.pipeline.classes)

    @property
    def trained_labels(self) -> IntArray:
        """``(training samples,)`` class indices of the labelled samples of the train split."""
        return self.labels[trainable(self.manifest.samples, self.labels)]

    def extract(self, names: Iterable[str] = (), *, retry_failed: bool = False) -> list[Outcome]:
        """Bring the store up to date; see ``mercore.extract.extract``."""
        from mercore.extract import extract

        return extract(
            self.pipeline,
            self.manifest,
            self.store,
            self.machine,
            names=names,
            retry_failed=retry_failed,
            watch=self.watch,
        )

    def check_trainable(self) -> None:
        """Raise a MercoreError when the branches could not be trained once all is extracted."""
        if not self.pipeline.branches:
            raise RegistryError("the registry declares no branches; add 'branches:' to train")
        content = self.pipeline.registry.content
        branches.check_trainable(self.trained_labels, content.folds, self.pipeline.classes)

    def train(self) -> list[str]:
        """Train the branches that are not up to date; return their names."""
        self.check_trainable()
        self._save_registry()
        keys = self._keys()
        stale = [name for name, key in keys.items() if not self.folder.branch(name, key)]
        if not stale:
            return []
        content = self.pipeline.registry.content
        data = read_dataset(self.pipeline, self.manifest.samples, self.store)
        branches.check_present(data)
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

    def _train(self, branch: BranchNode, key: str, data: Dataset, folds: IntArray) -> None:
        trained = branches.train(
            branch,
            data,
            folds,
            classes=len(self.pipeline.classes),
            device=self.machine.chosen_device(),
            seed=self.pipeline.registry.content.seed,
        )
        about = {
            "key": key,
            "features": dict(self.pipeline.fingerprints(branch)),
            "fusion": describe(branch.fusion),
        }
        self.folder.save_branch(branch.name, about, trained, self.ids, self.pipeline.classes)

    def branch_results(self) -> list[BranchResult]:
        """Return what the trained branches predicted; raises RunError for one out of date."""
        self.check_trainable()
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
        table = self.folder.probabilities(branch.name, self.ids, len(self.pipeline.classes))
        return BranchResult(
            name=branch.name,
            features=branch.features,
            fusion=branch.fusion.name,
            options=branch.fusion.model_dump(mode="json"),
            probabilities=table,
            waf=about["waf"],
            fold_waf=tuple(score for score in about["fold_waf"] if score is not None),
            filled=about["filled"],
            seconds=about["seconds"],
        )

    def _keys(self) -> dict[str, str]:
        """Return a hash of all that decides each branch."""
        features = feature_entries(self.pipeline, self.store)
        return branch_keys(self.pipeline, self.manifest, features)

    def missing(self) -> list[tuple[str, ...]]:
        """Return, for each sample, the features of the branches that it lacks."""
        return lacking(self.manifest.samples, feature_entries(self.pipeline, self.store))

    def ensemble(self) -> Decision:
        """Return the decision on every sample, from the stored tables; write predictions.csv."""
        return self.decide(self.branch_results())

    def decide(self, results: list[BranchResult]) -> Decision:
        """Return the decision on every sample; write predictions.csv."""
        self._save_registry()
        decision = decide(self.pipeline.ensemble, votes(results))
        ballots = {result.name: result.probabilities.argmax(axis=1) for result in results}
        self.folder.save_predictions(
            self.manifest.samples, self.pipeline.classes, decision, ballots, self.missing()
        )
        return decision

    def _save_registry(self) -> None:
        """Keep the experiment with its results, which `mer predict` applies."""
        self.folder.save("registry.yaml", self.pipeline.registry.document.text)
