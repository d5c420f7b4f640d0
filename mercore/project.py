"""A registry, a manifest, a store and a run folder together: what the commands work on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mercore import branches
from mercore.components import Decision, IntArray
from mercore.dataset import feature_entries, lacking, trainable
from mercore.derived import SampleStreams
from mercore.errors import RegistryError
from mercore.features import SampleFeatures
from mercore.folder import RunFolder
from mercore.lock import locked
from mercore.machine import Machine
from mercore.manifest import Manifest
from mercore.mining import check_minable
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.results import BranchResult, Round, votes
from mercore.search import with_found
from mercore.selection import Selection
from mercore.store import Store
from mercore.training import Training
from mercore.voting import decide
from mercore.watch import Silent, Watch, showing

if TYPE_CHECKING:
    from mercore.extraction import Outcome
    from mercore.predict import Prediction
    from mercore.results import FeatureResult
    from mercore.running import Run
    from mercore.summary import Report


@dataclass(frozen=True, repr=False)
class Project:
    """One experiment on one set of samples; ``mercore.open`` opens it."""

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
        root: str | Path | None = None,
    ) -> Project:
        """Return the project; raises a MercoreError with all mistakes of a file at once."""
        folder = RunFolder(Path(out))
        pipeline = with_found(resolve(Registry.read(registry), Plugins()), folder)
        samples = Manifest.read(manifest, pipeline.classes, bare=pipeline.bare, root=root)
        pipeline.check_media(samples)
        place = Store(store, create=create, endpoint=endpoint)
        return cls(pipeline, samples, place, folder, machine or Machine(), watch or Silent())

    def __repr__(self) -> str:
        features, branches = list(self.features), list(self.pipeline.branches)
        registry, out = str(self.pipeline.registry.document.path), str(self.folder.path)
        about = f"samples={len(self.ids)}, features={features}, branches={branches}, out={out!r}"
        return f"{type(self).__name__}({registry!r}, {about})"

    def _repr_html_(self) -> str:
        return self.features._repr_html_()

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in their order."""
        return self.pipeline.classes

    @property
    def ids(self) -> Sequence[str]:
        """The sample ids in the order of the manifest."""
        return self.manifest.ids

    @cached_property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where unlabelled."""
        return self.samples.labels

    @cached_property
    def samples(self) -> Selection:
        """All samples of the manifest."""
        return Selection(self.manifest.samples, self.pipeline.classes)

    @property
    def features(self) -> SampleFeatures:
        """What the store holds of the features now: ``features["hubert"].matrix()``."""
        return SampleFeatures(self.pipeline, self.store, self.samples)

    @property
    def streams(self) -> SampleStreams:
        """What the store holds of the derived streams now: ``streams["transcript"].texts()``."""
        return SampleStreams(self.pipeline, self.store, self.samples)

    @property
    def training_labels(self) -> IntArray:
        """``(samples,)`` class indices of the labelled samples of the train split, else -1."""
        inside = trainable(self.manifest.samples, self.labels)
        return np.where(inside, self.labels, -1)

    @property
    def trained_labels(self) -> IntArray:
        """``(training samples,)`` class indices of the labelled samples of the train split."""
        labels = self.training_labels
        return labels[labels >= 0]

    def extract(self, names: Iterable[str] = (), *, retry_failed: bool = False) -> list[Outcome]:
        """Bring the store up to date; see ``mercore.extract.extract``."""
        from mercore.extract import extract

        with showing(self.watch) as watch:
            return extract(
                self.pipeline,
                self.manifest,
                self.store,
                self.machine,
                names=[names] if isinstance(names, str) else names,
                retry_failed=retry_failed,
                watch=watch,
            )

    def status(self) -> list[FeatureResult]:
        """Return what the store holds of each stream and feature: how many, what failed, why."""
        from mercore.status import feature_results

        return feature_results(self.pipeline, self.manifest, self.store)

    def check_trainable(self) -> None:
        """Raise a MercoreError when the branches could not be trained once all is extracted."""
        if not self.pipeline.branches:
            raise RegistryError("the registry declares no branches; add 'branches:' to train")
        content = self.pipeline.registry.content
        branches.check_trainable(self.trained_labels, content.folds, self.pipeline.classes)

    def search(self, draws: int) -> Project:
        """Return the project with the best of `draws` draws of each branch's options.

        They are kept in the run folder, and hold for it until the registry declares the branch
        otherwise; see ``mercore.search``.
        """
        self.check_trainable()
        declared = resolve(self.pipeline.registry, Plugins())
        with locked(self.folder.path), showing(self.watch) as watch:
            Training(replace(self, pipeline=declared, watch=watch)).search(draws)
        return replace(self, pipeline=with_found(declared, self.folder))

    def train(self) -> list[str]:
        """Train the branches that are not up to date; return their names."""
        self.check_trainable()
        with locked(self.folder.path), showing(self.watch) as watch:
            self._save_registry()
            return Training(replace(self, watch=watch)).first()

    def first_results(self) -> list[BranchResult]:
        """Return what the branches predict without pseudo-labels; RunError for a stale one."""
        return next(Training(self).rounds(train=False)).results

    def check_minable(self) -> None:
        """Raise a MercoreError when the registry declares no mining, or of no sample there is."""
        check_minable(self.pipeline.registry.content.mining, self.manifest)

    def mine(self) -> list[Round]:
        """Return the rounds of data mining, trained where they are not up to date.

        The first is the branches without pseudo-labels; it is the only one where the registry
        declares no mining, or nothing is agreed on.
        """
        self.check_trainable()
        with locked(self.folder.path), showing(self.watch) as watch:
            self._save_registry()
            training = Training(replace(self, watch=watch))
            training.first()
            rounds = list(training.rounds(train=True))
            self.folder.save_mined(self.ids, self.pipeline.classes, rounds)
        return rounds

    def rounds(self) -> list[Round]:
        """Return the rounds of data mining; raises RunError for one that is out of date."""
        self.check_trainable()
        return list(Training(self).rounds(train=False))

    def branch_results(self) -> list[BranchResult]:
        """Return what the branches of the last round predicted, as ``rounds`` does."""
        return self.rounds()[-1].results

    def missing(self) -> list[tuple[str, ...]]:
        """Return, for each sample, the features of the branches that it lacks."""
        return lacking(self.manifest.samples, feature_entries(self.pipeline, self.store))

    def ensemble(self) -> Decision:
        """Return the decision on every sample, from the stored tables; write predictions.csv."""
        return self.decide(self.branch_results())

    def decide(self, results: list[BranchResult]) -> Decision:
        """Return the decision on every sample; write predictions.csv."""
        self._save_registry()
        decision = decide(self.pipeline.ensemble, votes(results, self.training_labels))
        ballots = {result.name: result.probabilities.argmax(axis=1) for result in results}
        self.folder.save_predictions(
            self.manifest.samples, self.pipeline.classes, decision, ballots, self.missing()
        )
        return decision

    def run(self, *, retry_failed: bool = False) -> Run:
        """Extract, train, mine where the registry says so, vote, report: ``mer run``."""
        from mercore.running import run

        return run(self, retry_failed=retry_failed)

    def report(self) -> Report:
        """Write report.html and report.json of what is trained; return content and page."""
        from mercore.summary import write_report

        return write_report(self)

    def predict(
        self, files: str | Path | Iterable[str | Path], *, store: str | Path | None = None
    ) -> list[Prediction]:
        """Return one prediction a new clip, by the branches that are trained in `out`.

        See ``mercore.predict.Predictor.predict_files``, which needs neither registry nor manifest.
        """
        from mercore.predict import Predictor

        predictor = Predictor.open(self.folder.path, self.machine, self.watch)
        return predictor.predict_files(files, store=store)

    def _save_registry(self) -> None:
        """Keep the experiment with its results, which `mer predict` applies."""
        self.folder.save("registry.yaml", self.pipeline.registry.document.text)
