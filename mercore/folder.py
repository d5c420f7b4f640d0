"""A run folder: what a training leaves behind. Files are replaced whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat, JsonValue, NonNegativeInt

from mercore.branches import Fold, Trained, problem_of
from mercore.components import Decision, IntArray
from mercore.errors import RunError
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.results import Round
from mercore.table import csv_text

CURE = "free some space, check the permissions, or give another --out"


class _Branch(BaseModel):
    """What of branch.json is relied on; a file without it is none."""

    key: str
    common: str = ""
    crc32c: dict[str, int] = {}
    features: dict[str, str]
    fusion: dict[str, JsonValue]
    versions: dict[str, str] = {}
    waf: FiniteFloat
    fold_waf: list[FiniteFloat | None]
    filled: NonNegativeInt
    seconds: FiniteFloat


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run.

    ::

        folds.csv                       id, fold, label: which fold validates a training sample
        branches/NAME/fold0.safetensors weights, one file a fold
        branches/NAME/mean0.safetensors means of the features, for samples that lack one
        branches/NAME/probabilities.csv id and one column a class, in the order of the manifest
        branches/NAME/branch.json       what it was made from and its scores; written last
        mining/round1/branches/...      the same, of each round of data mining
        mining/mined.csv                id, label, round, branch: the pseudo-labels
        mining/mining.json              how many rounds there are; written last
        search.json                     what ``mer train --search`` tried, and the best
        ablation/branches/...           the same, of combinations of features: `mer ablate`
        ablation.json                   their scores, side by side
        predictions.csv                 the decision of the ensemble
        report.json, report.html
    """

    path: Path

    def round(self, number: int) -> RunFolder:
        """Return the folder of a round of data mining; 0 is this one."""
        return RunFolder(self.path / "mining" / f"round{number}") if number else self

    @property
    def ablation(self) -> RunFolder:
        """The folder of the branches of an ablation."""
        return RunFolder(self.path / "ablation")

    def branch(self, name: str, key: str) -> dict[str, Any] | None:
        """Return branch.json when the branch is complete and was made from `key`, else None."""
        about = self.trained(name)
        return about if about and about.get("key") == key else None

    def trained(self, name: str) -> dict[str, Any] | None:
        """Return branch.json when the branch is complete, else None."""
        try:
            about: dict[str, Any] = json.loads(self._branch(name, "branch.json").read_bytes())
            _Branch.model_validate(about)
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        except OSError as error:
            raise RunError(f"cannot read the run folder {self.path}: {error.strerror}") from error
        return about

    def branches(self) -> list[str]:
        """Return the names of the complete branches, of which the registry may not know."""
        found = (path.parent.name for path in self.path.glob("branches/*/branch.json"))
        return sorted(filter(self.trained, found))

    def save_branch(
        self,
        name: str,
        about: Mapping[str, Any],
        trained: Trained,
        ids: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        """Write the branch; branch.json last, so that a torn one is trained again.

        One that is complete stays as it is: another run was faster.
        """
        if self.branch(name, str(about["key"])):
            return
        replace(self._branch(name, "branch.json"), b"{}\n")
        checksums: dict[str, JsonValue] = {}
        for number, fold in enumerate(trained.folds):
            for file, arrays in ((f"fold{number}", fold.weights), (f"mean{number}", fold.means)):
                checksums[file] = self._save_arrays(name, file, arrays)
        table = zip(ids, trained.probabilities.tolist(), strict=True)
        rows = ([identifier, *row] for identifier, row in table)
        self._csv(f"branches/{name}/probabilities.csv", ["id", *classes], rows)
        scores: dict[str, JsonValue] = {
            "waf": trained.waf,
            "fold_waf": [None if score != score else score for score in trained.fold_waf],
            "filled": trained.filled,
            "seconds": trained.seconds,
            "crc32c": checksums,
        }
        replace(self._branch(name, "branch.json"), _json({**about, **scores}))

    def copy_branch(self, name: str, source: RunFolder, theirs: str) -> None:
        """Take over a branch of another folder; branch.json last, as when it is saved."""
        replace(self._branch(name, "branch.json"), b"{}\n")
        folder = source._branch(theirs, "")
        try:
            files = [file for file in folder.iterdir() if not file.name.startswith(".")]
            for file in sorted(files, key=lambda file: file.name == "branch.json"):
                replace(self._branch(name, file.name), file.read_bytes())
        except OSError as error:
            raise RunError(f"cannot read {folder}: {error.strerror}; run `mer train`") from error

    def folds(self, name: str, count: int) -> list[Fold]:
        """Return what the `count` folds of a branch have learnt; RunError for a damaged file."""
        known = (self.trained(name) or {}).get("crc32c", {})
        return [
            Fold(*(self._arrays(name, f"{kind}{number}", known) for kind in ("fold", "mean")))
            for number in range(count)
        ]

    def probabilities(self, name: str, ids: Sequence[str], classes: int) -> FloatArray:
        """Return the branch's ``(samples, classes)`` float32 table in the order of `ids`."""
        path = self._branch(name, "probabilities.csv")
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = {row[0]: row[1:] for row in csv.reader(file) if row}
            table = np.array([rows[identifier] for identifier in ids], np.float32)
            table = table.reshape(len(ids), classes)
        except (OSError, KeyError, ValueError, csv.Error) as error:
            raise RunError(f"{path}: not the table of this manifest; run `mer train`") from error
        if problem := problem_of(table, (len(ids), classes)):
            raise RunError(f"{path}: found {problem}; delete it and run `mer train`")
        return table

    def save_folds(self, samples: Sequence[Sample], folds: IntArray) -> None:
        """Write which fold validates each training sample, and its label."""
        assigned = zip(samples, folds.tolist(), strict=True)
        rows = ([sample.id, fold, sample.label] for sample, fold in assigned if fold >= 0)
        self._csv("folds.csv", ["id", "fold", "label"], rows)

    def training_samples(self) -> dict[str, str]:
        """Return the label of each training sample by id; raises RunError where none is kept."""
        path = self.path / "folds.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return {row["id"]: row["label"] or "" for row in csv.DictReader(file)}
        except (OSError, KeyError, ValueError, csv.Error) as error:
            raise RunError(f"{path}: not the training samples; run `mer train` again") from error

    def save_mined(
        self, ids: Sequence[str], classes: Sequence[str], rounds: Sequence[Round]
    ) -> None:
        """Write the pseudo-labels, and which round was the last."""
        last = rounds[-1]
        names = [result.name for result in last.results]
        columns = (last.pseudo.labels, last.pseudo.rounds, last.pseudo.learners)
        table = zip(ids, *(column.tolist() for column in columns), strict=True)
        rows = (
            [identifier, classes[label], number, names[learner]]
            for identifier, label, number, learner in table
            if number
        )
        self._csv("mining/mined.csv", ["id", "label", "round", "branch"], rows)
        number = len(rounds) - 1
        about = {"branches": self._keys(names), "last": self.round(number)._keys(names)}
        self.save_json("mining/mining.json", {"rounds": number, **about})

    def last_round(self, names: Sequence[str]) -> RunFolder | None:
        """Return the folder of the last round of mining that began with these branches.

        None where there is none, or branches of either were trained again since.
        """
        about = self.read_json("mining/mining.json") or {}
        number = about.get("rounds")
        if about.get("branches") != self._keys(names) or not isinstance(number, int):
            return None
        folder, last = self.round(number), about.get("last")
        whole = folder.path.is_dir() and last in (None, folder._keys(names))  # older ones: None
        return folder if whole else None

    def save_predictions(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        decision: Decision,
        votes: Mapping[str, IntArray],
        missing: Sequence[Sequence[str]],
    ) -> Path:
        """Write the decision, its probabilities and each branch's label; return the file.

        `missing` are the features each sample lacks.
        """
        header = ["id", "split", "label", "predicted", "support", *classes, "missing"]
        header += [f"branch_{name}" for name in votes]
        rows = (
            [
                sample.id,
                sample.split,
                sample.label or "",
                classes[decision.labels[row]],
                f"{decision.support[row]:.4f}",
                *(f"{value:.6f}" for value in decision.probabilities[row]),
                " ".join(missing[row]),
                *(classes[labels[row]] for labels in votes.values()),
            ]
            for row, sample in enumerate(samples)
        )
        return self._csv("predictions.csv", header, rows)

    def save(self, name: str, content: str) -> Path:
        """Write a text file of the run; return its path."""
        return replace(self.path / name, content.encode())

    def save_json(self, name: str, content: Mapping[str, JsonValue]) -> Path:
        """Write a JSON file of the run; return its path."""
        return replace(self.path / name, _json(content))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file of the run, None where there is none."""
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def _keys(self, names: Sequence[str]) -> dict[str, JsonValue]:
        """Return the key of each branch that is complete, None for the others."""
        return {name: (self.trained(name) or {}).get("key") for name in names}

    def _branch(self, name: str, file: str) -> Path:
        return self.path / "branches" / name / file

    def _save_arrays(self, name: str, file: str, arrays: Mapping[str, NDArray[Any]]) -> int:
        """Return the crc32c of the file, once it is written."""
        from google_crc32c import value
        from safetensors.numpy import save

        # Not ascontiguousarray, which gives a single number a dimension.
        content = save({key: np.asarray(array, order="C") for key, array in arrays.items()})
        replace(self._branch(name, f"{file}.safetensors"), content)
        checksum: int = value(content)
        return checksum

    def _arrays(self, name: str, file: str, known: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """Return the arrays of a file; `known` has its crc32c, if that was noted."""
        from google_crc32c import value
        from safetensors.numpy import load

        path = self._branch(name, f"{file}.safetensors")
        try:
            content = path.read_bytes()
            if known.get(file) not in (None, value(content)):
                raise ValueError("it is not what was written")
            return load(content)
        except Exception as error:  # a damaged header may lead to any
            cure = "delete its folder and train again"
            raise RunError(f"cannot read {path}: {error}; {cure}") from error

    def _csv(self, name: str, header: Sequence[str], rows: Any) -> Path:
        return self.save(name, csv_text(chain([header], rows)))


def replace(path: Path, content: bytes, cure: str = CURE) -> Path:
    """Write the file whole or not at all; raises RunError naming the path and the cure."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):  # a full disk should not be left with half a file
            new.unlink()
        raise RunError(f"cannot write {path}: {error.strerror}; {cure}") from error
    return path


def _json(value: Mapping[str, JsonValue]) -> bytes:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"
