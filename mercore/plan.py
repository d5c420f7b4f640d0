"""What `mer run` would do, without doing it: what is missing, what is kept, how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mercore.dataset import feature_entries
from mercore.errors import InputError, MercoreError
from mercore.extract import needed
from mercore.folder import RunFolder
from mercore.manifest import Sample
from mercore.measured import NOTHING, Estimate, extraction, fitting
from mercore.mining import PseudoLabels
from mercore.pipeline import Node, Pipeline
from mercore.project import Project
from mercore.recipes import Change
from mercore.results import Round
from mercore.sources import Sources
from mercore.staleness import reasons
from mercore.status import superseded
from mercore.store import Collection, Entry, Store
from mercore.target import pending
from mercore.training import Training


@dataclass(frozen=True)
class Extracting:
    """What there is to do for one stream or feature that the features need."""

    node: Node
    samples: int
    """To be computed: missing, of a changed file, or to be tried again."""
    kept: int
    """Of the manifest's, stored and up to date; failed ones included."""
    time: Estimate


@dataclass(frozen=True)
class Fitting:
    """What there is to do for one branch."""

    name: str
    train: bool
    why: tuple[Change, ...]
    """What is otherwise than when it was trained; empty where it was not, or need not be again."""
    time: Estimate


@dataclass(frozen=True)
class Mining:
    """What there is to do in the rounds of data mining."""

    rounds: int
    """At most so many are declared; they end where nothing is agreed on any more."""
    kept: int
    """So many are up to date."""
    first: int | None
    """The first that is to be mined; None where all that there are stand."""
    branches: tuple[str, ...]
    """Those to be trained in that round; in all that follow, every branch may be."""
    time: Estimate
    """Of all rounds that are left."""


@dataclass(frozen=True)
class Plan:
    """What running the registry on the manifest, the store and the run folder would do."""

    extracting: tuple[Extracting, ...]
    branches: tuple[Fitting, ...]
    mining: Mining | None
    """None where the registry declares none."""
    left: tuple[str, ...]
    """Branches of the run folder that the registry does not declare any more."""
    problem: str | None
    """Why `mer run` would not begin."""

    @property
    def times(self) -> list[Estimate]:
        """How long each piece of work takes that there is to do."""
        parts: list[Extracting | Fitting] = [part for part in self.extracting if part.samples]
        parts += [part for part in self.branches if part.train]
        mining = [self.mining.time] if self.mining and self.mining.first else []
        return [*(part.time for part in parts), *mining]


def replaced(before: Pipeline, after: Pipeline, store: Store) -> list[Collection]:
    """Return what the store holds for one pipeline and the other does not use."""
    useless = {collection.identity.folder for collection in superseded(before, store)}
    return [one for one in superseded(after, store) if one.identity.folder not in useless]


def plan(project: Project, measured: Iterable[RunFolder] = ()) -> Plan:
    """Return what `mer run` would do for the project; nothing is written.

    It holds if no sample fails that did not before. How long branches take is read from the
    project's run folder, then from those in `measured`.
    """
    work = _Work(project)
    extracting = tuple(work.extracting())
    try:
        project.check_trainable()
    except MercoreError as error:
        return Plan(extracting, (), None, (), str(error))
    folders = [project.folder, *measured]
    branches, mining = _trainings(Training(project, work.expected()), folders)
    left = tuple(
        name for name in project.folder.branches() if name not in project.pipeline.branches
    )
    return Plan(extracting, branches, mining, left, None)


class _Work:
    """The samples that each stream and feature lacks."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.sources = Sources()
        self.entries: dict[str, Mapping[str, Entry]] = {}
        self.todo: dict[str, list[Sample]] = {}
        for node in needed(project.pipeline):
            self.entries[node.name], self.todo[node.name] = self._pending(node)

    def _pending(self, node: Node) -> tuple[Mapping[str, Entry], list[Sample]]:
        store, samples = self.project.store, self.project.manifest.samples
        found = [store.collection(group, node.name, node.fingerprint) for group in node.groups]
        stored = [part.entries() if part else {} for part in found]
        streams = node.upstream(self.project.pipeline.streams)
        new = {name: {sample.id for sample in self.todo[name]} for name in streams}

        def there(sample: Sample) -> bool:
            """Return whether the sample has, or will have, all that the node reads."""
            return all(
                sample.id in new[name]
                or ((entry := self.entries[name].get(sample.id)) and entry.failed is None)
                for name in streams
            )

        return stored[0], pending(node, stored, samples, there, self.sources)

    def extracting(self) -> Iterable[Extracting]:
        """Yield what there is to do, in the order of the data."""
        project, count = self.project, len(self.project.ids)
        for name, todo in self.todo.items():
            node = project.pipeline.nodes[name]
            time = extraction(node, len(todo), project.store)
            yield Extracting(node, len(todo), count - len(todo), time)

    def expected(self) -> dict[str, Mapping[str, Entry]]:
        """Return what the store will know of the features of the branches."""
        pipeline = self.project.pipeline
        stored = feature_entries(pipeline, self.project.store)
        return {name: self._with_new(pipeline.features[name], stored[name]) for name in stored}

    def _with_new(self, node: Node, stored: Mapping[str, Entry]) -> Mapping[str, Entry]:
        if not self.todo[node.name]:
            return stored
        exact = self._may_stand(node)
        new = {
            sample.id: Entry(1, self._identity(sample, node) if exact else "", {}, None)
            for sample in self.todo[node.name]
        }
        return {**stored, **new}

    def _may_stand(self, node: Node) -> bool:
        """Return whether a branch was trained on this very feature, and could be up to date.

        Only then it matters what the files hold, which takes reading them.
        """
        abouts = map(self.project.folder.trained, self.project.pipeline.branches)
        return any(about and node.fingerprint in about["features"].values() for about in abouts)

    def _identity(self, sample: Sample, node: Node) -> str:
        try:
            return self.sources.identity(sample, node.roots)
        except InputError:  # the file is gone
            return ""


def _trainings(
    training: Training, folders: Sequence[RunFolder]
) -> tuple[tuple[Fitting, ...], Mining | None]:
    number, stale = _first_stale(training)
    project, first = training.project, stale if number == 0 else []
    fittings = []
    for name, branch in project.pipeline.branches.items():
        known = (project.pipeline, project.folder, project.store, project.manifest)
        why = tuple(reasons(branch, *known)) if name in first else ()
        fittings.append(Fitting(name, name in first, why, _time(training, [name], folders, 0)))
    return tuple(fittings), _mining(training, number, stale, folders)


def _first_stale(training: Training) -> tuple[int, list[str]]:
    """Return the first round with branches that are not up to date, and these; else the last.

    What the rounds after it are trained on is not known before.
    """
    keys, pseudo = training.keys, PseudoLabels.none(len(training.project.ids))
    while True:
        folder = training.project.folder.round(pseudo.last)
        stale = [name for name, key in keys.items() if not folder.branch(name, key)]
        if stale:
            return pseudo.last, stale
        last = Round(pseudo, training.results(folder, keys, "mine"))
        following = training.following(last, keys)
        if following is None:
            return pseudo.last, []
        pseudo, keys = following


def _mining(
    training: Training, number: int, stale: Sequence[str], folders: Sequence[RunFolder]
) -> Mining | None:
    pipeline = training.project.pipeline
    mining = pipeline.registry.content.mining
    if mining is None:
        return None
    if not stale:
        return Mining(mining.rounds, number, None, (), NOTHING)
    first = max(number, 1)
    names = tuple(stale) if number else tuple(pipeline.branches)
    left = [name for name in pipeline.branches] * (mining.rounds - first)
    time = _time(training, [*names, *left], folders, first)
    return Mining(mining.rounds, first - 1, first, names, time)


def _time(
    training: Training, names: Sequence[str], folders: Sequence[RunFolder], number: int
) -> Estimate:
    """Return how long these branches take one after another, some of them several times."""
    branches = training.project.pipeline.branches
    each = [fitting(branches[name], folders, number) for name in names]
    known = [time.seconds for time in each if time.seconds is not None]
    sources = "; ".join(dict.fromkeys(time.source for time in each))
    return Estimate(sum(known) if len(known) == len(each) else None, sources)
