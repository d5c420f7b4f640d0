"""A trained pipeline on new clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mercore import branches
from mercore.branches import Fold
from mercore.clips import samples_of
from mercore.components import Decision, Votes
from mercore.dataset import Dataset, feature_entries, lacking, read_dataset
from mercore.errors import InputError, MercoreError, RunError
from mercore.extract import extract
from mercore.fingerprints import describe
from mercore.folder import RunFolder
from mercore.machine import Machine, limited
from mercore.manifest import Manifest, Sample
from mercore.media import FloatArray
from mercore.pipeline import BranchNode, Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.search import with_found
from mercore.store import Entry, Store
from mercore.voting import decide
from mercore.watch import Silent, Watch, showing


@dataclass(frozen=True)
class Prediction:
    """What the branches and the ensemble say of one clip."""

    id: str
    """The path of its first file, as given; the id of a row of a manifest."""
    label: str | None
    """None where none of the features could be computed."""
    probabilities: Mapping[str, float]
    """Class to mean probability of the branches; sums to 1."""
    support: float
    """Share of the branches whose label is the decided one, in [0, 1]."""
    branches: Mapping[str, Mapping[str, float]]
    """Branch to class to probability; the vote of a branch is its most probable class."""
    missing: Mapping[str, str]
    """Feature to the reason why there is none; the training mean stands in its place."""
    failed: bool
    """Whether a feature is missing for another reason than that the clip has no such medium."""

    @property
    def votes(self) -> dict[str, str]:
        """Branch to label."""
        return {name: max(table, key=table.__getitem__) for name, table in self.branches.items()}


@dataclass(frozen=True)
class TrainedBranch:
    """A branch, what its folds have learnt, and how well it did on samples it had not seen."""

    node: BranchNode
    folds: Sequence[Fold]
    waf: float

    def probabilities(self, data: Dataset, classes: int, device: str) -> FloatArray:
        """Return ``(samples, classes)``: the mean of the folds.

        Raises RunError where the fusion cannot use what they have learnt.
        """
        rows: NDArray[np.bool_] = np.ones(len(data.samples), np.bool_)
        try:
            tables = [
                branches.predict(self.node, fold, data, rows, classes=classes, device=device)
                for fold in self.folds
            ]
        except MercoreError:
            raise
        except Exception as error:  # of a plugin, about weights whose names or shapes are odd
            who = f"branch {self.node.name!r}: fusion {self.node.fusion.name!r}"
            found = f"{type(error).__name__}: {error}"
            raise RunError(f"{who} cannot use the weights of the run ({found})") from error
        mean: FloatArray = np.mean(tables, axis=0, dtype=np.float32)
        return mean


@dataclass(frozen=True)
class Predictor:
    """The branches of a run folder, ready for clips they have not seen.

    ::

        predictor = Predictor.open("runs/default")
        for prediction in predictor.predict_files(["clip1.mp4", "clip2.mp4"]):
            print(prediction.id, prediction.label, prediction.probabilities)
    """

    pipeline: Pipeline
    branches: Sequence[TrainedBranch]
    machine: Machine
    watch: Watch
    trained: Votes | None = None
    """The votes on the training samples, for an ensemble that learns."""

    @classmethod
    def open(
        cls, out: str | Path, machine: Machine | None = None, watch: Watch | None = None
    ) -> Predictor:
        """Return the predictor of a run folder.

        Raises RunError where nothing is trained, or where the components that are installed now
        would compute other features than the branches were trained on.
        """
        folder = first = RunFolder(Path(out))
        if not (folder.path / "registry.yaml").is_file():
            raise RunError(f"{folder.path}: no trained run there; `mer run --out DIR` makes one")
        pipeline = resolve(Registry.read(folder.path / "registry.yaml"), Plugins())
        pipeline = with_found(pipeline, folder)
        if pipeline.registry.content.mining:
            folder = _mined(folder, pipeline)
        trained = [_read_branch(pipeline, branch, folder) for branch in pipeline.branches.values()]
        _check_together(folder, list(pipeline.branches))
        before = _trained_votes(pipeline, trained, first, folder)
        return cls(pipeline, trained, machine or Machine(), watch or Silent(), before)

    def predict_files(
        self,
        files: str | Path | Iterable[str | Path],
        *,
        store: str | Path | None = None,
        endpoint: str | None = None,
        root: str | Path | None = None,
        retry_failed: bool = False,
    ) -> list[Prediction]:
        """Return one prediction a clip, in the order of the files.

        Files with one stem are one clip; a manifest gives its rows: see ``mercore.clips``. Their
        features are kept in `store`, also what failed, which `retry_failed` tries again; without
        one all is computed anew the next time. With a `root` all clips must lie below that folder.
        """
        given = [files] if isinstance(files, str | Path) else files
        samples = samples_of(given, self.pipeline.classes, bare=self.pipeline.bare, root=root)
        if not samples:
            raise InputError("no files to predict; expected one or more")
        with TemporaryDirectory() as folder, showing(self.watch) as watch:
            place = Store(store or folder, endpoint=endpoint)
            return replace(self, watch=watch).predict(samples, place, retry_failed=retry_failed)

    def predict(
        self, samples: Sequence[Sample], store: Store, *, retry_failed: bool = False
    ) -> list[Prediction]:
        """Return one prediction a sample, in order; their features are kept in `store`."""
        manifest = Manifest.of("new clips", samples)
        extract(
            self.pipeline,
            manifest,
            store,
            self.machine,
            names=self.pipeline.used,
            retry_failed=retry_failed,
            watch=self.watch,
        )
        votes = self._vote(samples, store)
        decision = self._decide(votes)
        entries = feature_entries(self.pipeline, store)
        lost = [
            {name: entries[name][sample.id] for name in names}
            for sample, names in zip(samples, lacking(samples, entries), strict=True)
        ]
        return [
            self._prediction(sample.id, row, votes, decision, lost[row])
            for row, sample in enumerate(samples)
        ]

    def _vote(self, samples: Sequence[Sample], store: Store) -> Votes:
        device, classes = self.machine.chosen_device(), len(self.pipeline.classes)

        @cache
        def data(frames: int | None) -> Dataset:
            names = self.pipeline.read_as(frames)
            return read_dataset(self.pipeline, samples, store, names, frames)

        with limited(1):  # as in training, so that the same clip gets the same numbers
            tables = [
                branch.probabilities(data(branch.node.fusion.most_frames), classes, device)
                for branch in self.branches
            ]
        names = tuple(branch.node.name for branch in self.branches)
        scores = np.array([branch.waf for branch in self.branches], np.float32)
        return Votes(names, np.stack(tables), scores)

    def _decide(self, votes: Votes) -> Decision:
        """Return the decision on new clips, beside the training samples where it learns."""
        if self.trained is None:
            return decide(self.pipeline.ensemble, votes)
        before, first = self.trained, self.trained.probabilities.shape[1]
        new = np.full(votes.probabilities.shape[1], -1, np.int64)
        together = replace(
            before,
            probabilities=np.concatenate([before.probabilities, votes.probabilities], axis=1),
            labels=None if before.labels is None else np.concatenate([before.labels, new]),
        )
        whole = decide(self.pipeline.ensemble, together)
        return Decision(whole.labels[first:], whole.probabilities[first:], whole.support[first:])

    def _prediction(
        self, id: str, row: int, votes: Votes, decision: Decision, lost: Mapping[str, Entry]
    ) -> Prediction:
        missing = {name: entry.failed or "" for name, entry in lost.items()}
        failed = any(not entry.record.get("absent") for entry in lost.values())
        if len(lost) == len(self.pipeline.used):
            return Prediction(id, None, {}, 0.0, {}, missing, failed)
        tables = zip(votes.names, votes.probabilities[:, row], strict=True)
        return Prediction(
            id=id,
            label=self.pipeline.classes[decision.labels[row]],
            probabilities=self._by_class(decision.probabilities[row]),
            support=float(decision.support[row]),
            branches={name: self._by_class(table) for name, table in tables},
            missing=missing,
            failed=failed,
        )

    def _by_class(self, probabilities: FloatArray) -> dict[str, float]:
        return dict(zip(self.pipeline.classes, probabilities.tolist(), strict=True))


def _mined(folder: RunFolder, pipeline: Pipeline) -> RunFolder:
    found = folder.last_round(list(pipeline.branches))
    if found is None:
        raise RunError(f"{folder.path}: nothing is mined with these branches; run `mer mine`")
    return found


def _trained_votes(
    pipeline: Pipeline, trained: Sequence[TrainedBranch], first: RunFolder, last: RunFolder
) -> Votes | None:
    """Return the votes of the last round on the training samples, if the ensemble learns."""
    if not pipeline.ensemble.learns:
        return None
    labels, classes = first.training_samples(), list(pipeline.classes)
    if unknown := sorted(set(labels.values()) - set(classes)):
        where = f"{first.path / 'folds.csv'}: found the label {unknown[0]!r}"
        raise RunError(f"{where}, the classes are {', '.join(classes)}; run `mer train` again")
    names = tuple(branch.node.name for branch in trained)
    tables = [last.probabilities(name, list(labels), len(classes)) for name in names]
    scores = np.array([branch.waf for branch in trained], np.float32)
    indices = np.array([classes.index(label) for label in labels.values()], np.int64)
    return Votes(names, np.stack(tables), scores, indices)


def _read_branch(pipeline: Pipeline, branch: BranchNode, folder: RunFolder) -> TrainedBranch:
    about = folder.trained(branch.name)
    if about is None:
        raise RunError(f"{folder.path}: branch {branch.name!r} is not trained; run `mer train`")
    current = pipeline.fingerprints(branch)
    changed = [name for name in current if about["features"].get(name) != current[name]]
    if changed:
        raise RunError(
            f"{folder.path}: branch {branch.name!r} was trained on another {', '.join(changed)} "
            "than the installed components compute now (other weights, or another revision); "
            "install what it was trained with, or train again"
        )
    if about["fusion"] != describe(branch.fusion):
        raise RunError(
            f"{folder.path}: branch {branch.name!r} was trained by another fusion, or with other "
            "options, than the registry and the installed components say now; run `mer train`"
        )
    return TrainedBranch(branch, folder.folds(branch.name, len(about["fold_waf"])), about["waf"])


def _check_together(folder: RunFolder, names: Sequence[str]) -> None:
    """Raise RunError where some branches are of a training that was broken off, some are older."""
    common = {(folder.trained(name) or {}).get("common") for name in names}
    if len(common - {None}) > 1:  # branches of before it was noted have none
        raise RunError(
            f"{folder.path}: its branches were trained on different samples, labels, folds or "
            "seeds: a training was broken off; run `mer train` to its end"
        )
