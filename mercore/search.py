"""A search for the options of a branch's fusion, by cross-validation alone.

Options are drawn at random from the space of the fusion; the first draw is what the registry says.
Successive halving spends the time on what does well: all draws are trained for a 27th of the
epochs, the best third of them for three times as many, and so on. What is compared is
the out-of-fold WAF of the training samples: no other label is looked at.

Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012; Jamieson and
Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue, TypeAdapter, ValidationError

from mercore.components import Fusion, Range
from mercore.errors import RegistryError, RunError
from mercore.fingerprints import describe
from mercore.folder import RunFolder
from mercore.pipeline import BranchNode, Pipeline

FILE = "search.json"
KEPT = 3
"""One of so many draws goes on, with so many times the epochs."""
RUNGS = 4
"""At most, so that the first is a 27th of the epochs."""

Options = dict[str, JsonValue]


@dataclass(frozen=True)
class Trial:
    """A draw that was trained."""

    options: Options
    """Those drawn; empty for what the registry says."""
    epochs: int | None
    """None where the fusion has no such option."""
    waf: float
    """Of all training samples, out of fold."""


Scores = Callable[[Sequence[BranchNode]], Iterator[float]]
"""Train branches, as far as they are asked for, and yield the out-of-fold WAF of each."""


@dataclass(frozen=True)
class Search:
    """The search of one branch."""

    branch: BranchNode
    draws: int
    seed: int

    @property
    def trials(self) -> int:
        """How many trials it takes."""
        return sum(count for count, _ in self._rungs)

    def run(self, scores: Scores, known: Sequence[Trial] = ()) -> Iterator[Trial]:
        """Yield every trial as it is made; those in `known` are not made again.

        Raises RegistryError when the fusion has nothing to search.
        """
        before = {_key(trial.options, trial.epochs): trial for trial in known}
        left = self._drawn
        for count, epochs in self._rungs:
            left = left[:count]
            trials = []
            new = [options for options in left if _key(options, epochs) not in before]
            found = scores([self._varied(options, epochs) for options in new])
            for options in left:
                trial = before.get(_key(options, epochs)) or Trial(options, epochs, next(found))
                trials.append(trial)
                yield trial
            trials.sort(key=lambda trial: -trial.waf)  # stable: the first drawn of equal ones
            left = [trial.options for trial in trials]

    def _varied(self, options: Options, epochs: int | None) -> BranchNode:
        fixed: Options = {} if epochs is None else {"epochs": epochs}
        return replace(self.branch, fusion=varied(self.branch.fusion, {**options, **fixed}))

    @cached_property
    def _drawn(self) -> list[Options]:
        """The options of each draw, the first without any, no two the same."""
        space, name = self.branch.fusion.space, self.branch.name
        if not space:
            raise RegistryError(
                f"branch {name!r}: fusion {self.branch.fusion.name!r} has no options to search; "
                "take another fusion, or train without --search"
            )
        random = np.random.default_rng([self.seed, *name.encode()])
        found: list[Options] = [{}]
        for _ in range(100 * self.draws):  # a small space holds no more
            if len(found) < self.draws:
                drawn = {option: _drawn(space[option], random) for option in sorted(space)}
                found += [drawn] if drawn not in found else []
        return found

    @cached_property
    def _rungs(self) -> list[tuple[int, int | None]]:
        """How many draws are trained for how many epochs, the last for all."""
        draws, epochs = len(self._drawn), getattr(self.branch.fusion, "epochs", None)
        if epochs is None:
            return [(draws, None)]
        rungs = 1
        while rungs < RUNGS and min(draws, epochs) >= KEPT**rungs:
            rungs += 1
        return [
            (max(1, draws // KEPT**rung), math.ceil(epochs / KEPT ** (rungs - 1 - rung)))
            for rung in range(rungs)
        ]


def best(trials: Sequence[Trial]) -> Trial:
    """Return the best of those trained for all epochs; the first of equal ones."""
    last = [trial for trial in trials if trial.epochs == trials[-1].epochs]
    return max(last, key=lambda trial: trial.waf)


def varied(fusion: Fusion, options: Options) -> Fusion:
    """Return the fusion with other options."""
    return type(fusion).model_validate({**fusion.model_dump(), **options})


def _drawn(choice: Range | tuple[JsonValue, ...], random: np.random.Generator) -> JsonValue:
    if not isinstance(choice, Range):
        return choice[random.integers(len(choice))]
    if choice.log:
        value = math.exp(random.uniform(math.log(choice.low), math.log(choice.high)))
    else:
        value = random.uniform(choice.low, choice.high)
    return float(f"{value:.3g}")


def _key(options: Options, epochs: int | None) -> str:
    return f"{sorted(options.items())} {epochs}"


def known(folder: RunFolder, branch: str, entry: Mapping[str, JsonValue]) -> list[Trial]:
    """Return the trials that a search of the same branch on the same data has made before."""
    stored = (folder.read_json(FILE) or {}).get(branch)
    if not isinstance(stored, dict) or any(stored.get(k) != value for k, value in entry.items()):
        return []
    try:
        return TypeAdapter(list[Trial]).validate_python(stored.get("tried"))
    except ValidationError:
        return []  # they are made again


def save_trials(
    folder: RunFolder,
    branch: str,
    entry: Mapping[str, JsonValue],
    trials: Sequence[Trial],
    *,
    done: bool,
) -> None:
    """Write the trials made so far, and which is the best when all are done."""
    content = folder.read_json(FILE) or {}
    content[branch] = {**entry, "tried": [asdict(trial) for trial in trials]}
    if done:
        content[branch]["best"] = asdict(best(trials))
    folder.save_json(FILE, content)


def with_found(pipeline: Pipeline, folder: RunFolder) -> Pipeline:
    """Return the pipeline with the options that a search of this run folder found.

    A branch that the registry declares otherwise since keeps what the registry says.
    """
    found = folder.read_json(FILE) or {}
    branches = {
        name: _with_found(branch, found.get(name), folder.path / FILE)
        for name, branch in pipeline.branches.items()
    }
    return replace(pipeline, branches=branches)


def _with_found(branch: BranchNode, entry: Any, path: Path) -> BranchNode:
    if not isinstance(entry, dict) or entry.get("declared") != declared(branch):
        return branch
    if "best" not in entry:
        return branch
    try:
        options = TypeAdapter(Trial).validate_python(entry["best"]).options
        return replace(branch, fusion=varied(branch.fusion, options), found=options)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunError(
            f"{path}: what was found for branch {branch.name!r} is damaged at {where!r}: "
            f"{error.errors()[0]['msg']}; delete the file and search again, "
            "or train without --search"
        ) from error


def declared(branch: BranchNode) -> dict[str, JsonValue]:
    """Return what the registry says of a branch."""
    return {"features": list(branch.features), "fusion": describe(branch.fusion)}
