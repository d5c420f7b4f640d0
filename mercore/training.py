"""The training of a project's branches: once, and again in each round of data mining.

What a round accepts follows from the probabilities of the one before, so that a round is known by
its keys alone: one that was trained is found again, and one that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore import branches
from mercore.branches import Trained
from mercore.components import IntArray
from mercore.dataset import Dataset, feature_entries, lacking, read_dataset
from mercore.errors import RunError
from mercore.events import BranchTrained, RoundDone
from mercore.fingerprints import branch_keys, common_key, describe, mined_keys
from mercore.fits import Fit, Fits, fits_of
from mercore.folder import RunFolder
from mercore.mining import PseudoLabels, mine
from mercore.packages import versions
from mercore.pipeline import BranchNode
from mercore.results import BranchResult, Round, votes
from mercore.search import Search, Trial, declared, known, save_trials, varied
from mercore.store import Entry

if TYPE_CHECKING:
    from mercore.project import Project

Keys = Mapping[str, str]


@dataclass(frozen=True)
class Training:
    """The branches of one project, as the registry, the manifest and the store are now."""

    project: Project
    expected: Mapping[str, Mapping[str, Entry]] | None = None
    """What the store will hold of each feature, where that is not what it holds now."""

    def first(self) -> list[str]:
        """Train the branches without pseudo-labels that are not up to date; return their names."""
        return self._train_all(self.project.folder, self.keys, None)

    def rounds(self, *, train: bool) -> Iterator[Round]:
        """Yield the branches without pseudo-labels, then those of each round of data mining.

        Without `train` a round that is not up to date raises RunError.
        """
        keys = self.keys
        yield (last := Round(PseudoLabels.none(len(self.project.ids)), self._first_results()))
        while following := self.following(last, keys):
            pseudo, keys = following
            folder = self.project.folder.round(pseudo.last)
            if train:
                self._train_all(folder, keys, pseudo)
                self.project.watch.note(_done(pseudo))
            yield (last := Round(pseudo, self.results(folder, keys, "mine")))

    def following(self, last: Round, keys: Keys) -> tuple[PseudoLabels, Keys] | None:
        """Return what a further round of mining is trained on, and its keys; None for no round.

        `keys` are those of the round before.
        """
        options, number = self.project.pipeline.registry.content.mining, last.pseudo.last + 1
        pseudo = self._mined(last) if options and number <= options.rounds else None
        if options is None or pseudo is None:
            return None
        before = self.keys if options.warm is None else keys
        return pseudo, mined_keys(before, pseudo, self.project.ids, options.warm)

    def search(self, draws: int) -> None:
        """Search the options of every branch; write what was tried, and the best, as it goes on.

        Trials that were made before on the same data are not made again.
        """
        project = self.project
        for name, branch in project.pipeline.branches.items():
            task = Search(branch, draws, project.pipeline.registry.content.seed)
            project.watch.start(f"search {name}", task.trials)
            entry: dict[str, JsonValue] = {
                "declared": declared(branch), "key": self.keys[name], "draws": draws
            }  # fmt: skip
            tried: list[Trial] = []
            for trial in task.run(self._scores, known(project.folder, name, entry)):
                tried.append(trial)
                save_trials(project.folder, name, entry, tried, done=len(tried) == task.trials)
                project.watch.advance(f"search {name}", 1, 0)

    def _scores(self, nodes: Iterable[BranchNode]) -> Iterator[float]:
        """Yield the out-of-fold WAF of branches that are not kept."""
        return (score for _, score in self._fits.each(_waf, map(self._labelled_job, nodes)))

    def _labelled_job(self, branch: BranchNode) -> tuple[Fit, Dataset]:
        data, folds = self._labelled(branch.fusion.most_frames)
        return self._fit(branch, folds), data

    @cached_property
    def _fits(self) -> Fits:
        return fits_of(self.project.machine)

    @cached_property
    def _labelled(self) -> Callable[[int | None], tuple[Dataset, IntArray]]:
        """Return the training samples alone, and their folds."""
        inside = self._folds >= 0
        return cache(lambda frames: (self._data(frames).part(inside), self._folds[inside]))

    @cached_property
    def keys(self) -> Keys:
        """A hash of all that decides each branch."""
        return branch_keys(self.project.pipeline, self.project.manifest, self._entries)

    @cached_property
    def _entries(self) -> Mapping[str, Mapping[str, Entry]]:
        """What the store knows of each sample, for each feature of the branches."""
        return self.expected or feature_entries(self.project.pipeline, self.project.store)

    def _first_results(self) -> list[BranchResult]:
        return self.results(self.project.folder, self.keys, "train")

    def _mined(self, last: Round) -> PseudoLabels | None:
        content = self.project.pipeline.registry.content
        assert content.mining is not None
        voted = votes(last.results)
        return mine(
            voted, self.project.ids, self._unlabelled, last.pseudo, content.mining, content.seed
        )

    @cached_property
    def _unlabelled(self) -> NDArray[np.bool_]:
        """``(samples,)``: those of the split to mine that have every feature."""
        mining = self.project.pipeline.registry.content.mining
        split = mining.split if mining else None
        samples = self.project.manifest.samples
        whole = [
            sample.split == split and not missing
            for sample, missing in zip(samples, lacking(samples, self._entries), strict=True)
        ]
        return np.array(whole, np.bool_)

    def _train_all(self, folder: RunFolder, keys: Keys, pseudo: PseudoLabels | None) -> list[str]:
        """Train the branches of one round that are not up to date; return their names."""
        stale = [name for name, key in keys.items() if not folder.branch(name, key)]
        if not stale:
            return []
        project = self.project
        project.folder.save_folds(project.manifest.samples, self._folds)
        what = _title(pseudo)
        project.watch.start(what, len(stale))
        for fit, trained in self._fits.each(Fit.on, self._jobs(folder, keys, stale, pseudo)):
            self._save(folder, fit.branch, keys[fit.branch.name], trained)
            self._tell_trained(fit.branch.name, pseudo, trained)
            project.watch.advance(what, 1, 0)
        return stale

    def _jobs(
        self, folder: RunFolder, keys: Keys, names: Sequence[str], pseudo: PseudoLabels | None
    ) -> Iterator[tuple[Fit, Dataset]]:
        """Yield how the branches of one round are trained, without those that meanwhile are."""
        for name in names:
            if folder.branch(name, keys[name]):  # another run was faster
                self.project.watch.advance(_title(pseudo), 1, 0)
                continue
            branch = self.project.pipeline.branches[name]
            fit = self._fit(branch, self._folds)
            if pseudo is not None:
                fit = self._mining(fit, pseudo, pseudo.share(list(keys).index(name)))
            yield fit, self._data(branch.fusion.most_frames)

    def _tell_trained(self, name: str, pseudo: PseudoLabels | None, trained: Trained) -> None:
        number = pseudo.last if pseudo else 0
        event = BranchTrained(name, number, float(trained.waf), trained.seconds)
        self.project.watch.note(event)

    @cached_property
    def _folds(self) -> IntArray:
        """``(samples,)``: the fold of each training sample."""
        project, content = self.project, self.project.pipeline.registry.content
        return branches.assign_folds(
            project.manifest.samples,
            project.labels,
            content.folds,
            content.seed,
            project.pipeline.classes,
        )

    @cached_property
    def _data(self) -> Callable[[int | None], Dataset]:
        """Return the features of the branches whose fusion reads so many frames, read once."""
        return cache(self._read)

    def _read(self, frames: int | None) -> Dataset:
        project = self.project
        names = project.pipeline.read_as(frames)
        data = read_dataset(
            project.pipeline, project.manifest.samples, project.store, names, frames
        )
        branches.check_present(data)
        return data

    def _fit(self, branch: BranchNode, folds: IntArray) -> Fit:
        pipeline = self.project.pipeline
        return Fit(branch, folds, len(pipeline.classes), pipeline.registry.content.seed)

    def _mining(self, fit: Fit, pseudo: PseudoLabels, share: IntArray) -> Fit:
        """Return the fit with pseudo-labels, going on from the round before where it should."""
        content = self.project.pipeline.registry.content
        if content.mining is None or content.mining.warm is None:
            return replace(fit, pseudo=share)
        before = self.project.folder.round(pseudo.last - 1)
        start = [fold.weights for fold in before.folds(fit.branch.name, content.folds)]
        fusion = varied(fit.branch.fusion, {"epochs": content.mining.warm})
        branch = replace(fit.branch, fusion=fusion)
        return replace(fit, branch=branch, pseudo=share, start=start)

    def _save(self, folder: RunFolder, branch: BranchNode, key: str, trained: Trained) -> None:
        project = self.project
        about = {
            "key": key,
            "common": common_key(project.pipeline, project.manifest),
            "features": dict(project.pipeline.fingerprints(branch)),
            "fusion": describe(branch.fusion),
            "versions": versions(project.pipeline.origins(branch)),
        }
        folder.save_branch(branch.name, about, trained, project.ids, project.pipeline.classes)

    def results(self, folder: RunFolder, keys: Keys, command: str) -> list[BranchResult]:
        """Return what the branches of one round predicted; raises RunError for a stale one."""
        return [
            self._result(folder, branch, keys[name], command)
            for name, branch in self.project.pipeline.branches.items()
        ]

    def _result(
        self, folder: RunFolder, branch: BranchNode, key: str, command: str
    ) -> BranchResult:
        about = folder.branch(branch.name, key)
        if about is None:
            raise RunError(
                f"{folder.path}: branch {branch.name!r} is not trained on what the registry, "
                f"the manifest and the store hold now; run `mer {command}`"
            )
        classes = len(self.project.pipeline.classes)
        return BranchResult(
            name=branch.name,
            features=branch.features,
            fusion=branch.fusion.name,
            options=branch.fusion.model_dump(mode="json"),
            probabilities=folder.probabilities(branch.name, self.project.ids, classes),
            waf=about["waf"],
            fold_waf=tuple(score for score in about["fold_waf"] if score is not None),
            filled=about["filled"],
            seconds=about["seconds"],
        )


def _title(pseudo: PseudoLabels | None) -> str:
    """Return what a round is called where its progress is shown."""
    return f"round{pseudo.last}" if pseudo else "branches"


def _waf(fit: Fit, data: Dataset, device: str) -> float:
    """Return the out-of-fold WAF of a fit, without what it has learnt."""
    return fit.on(data, device).waf


def _done(pseudo: PseudoLabels) -> RoundDone:
    """Return what is told of a round that is trained."""
    new, known = pseudo.rounds == pseudo.last, pseudo.labels >= 0
    return RoundDone(pseudo.last, int(new.sum()), int(known.sum()))
