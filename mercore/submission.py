"""The file that a MER challenge wants: a label for each candidate."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mercore.errors import RunError, did_you_mean, few, listed
from mercore.folder import replace
from mercore.manifest import TRAIN
from mercore.table import csv_text


@dataclass(frozen=True)
class Format:
    """What one challenge wants."""

    columns: tuple[str, str]
    """Of the name and of the label."""
    labels: tuple[str, ...]
    candidates: int
    """How many names it expects."""


EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
"""Of MER2023, MER2024 and MER2025, in MERTools' order."""
FORMATS: Mapping[str, Format] = {
    "mer2024": Format(("name", "discrete"), EMOTIONS, 20_000),
    "mer2025": Format(("name", "discrete"), EMOTIONS, 20_000),
}
"""By the name of the challenge.

MER2025, Track 1 (MER-SEMI): its scorer reads ``name`` and ``discrete`` of ``submission.csv`` and
expects 20,000 names, all of ``track_all_candidates.csv`` (MERTools, MER2025/MER2025_Track1: README
and evaluation.py; arXiv:2504.19423). MER2024, MER-SEMI and MER-NOISE, one file each: labels of all
20,000 candidates (arXiv:2404.17113), in English (zeroqiaoba.github.io/MER2024-website, June 18,
2024); the columns are those of the labels that MER2024 itself gives.
"""


@dataclass(frozen=True)
class Submission:
    """A file that is ready to be sent."""

    path: Path
    counts: Mapping[str, int]
    """How many candidates have each label, in the order of the format's labels."""
    notes: Sequence[str]
    """What may be wrong with it."""


def submit(
    run: str | Path,
    challenge: str,
    out: str | Path,
    *,
    split: str | None = None,
    candidates: str | Path | None = None,
) -> Submission:
    """Write the answer to a challenge from predictions.csv of a run folder; return what it holds.

    Each candidate is there once, in the order of the file `candidates` (a csv with a column
    ``name``), else in that of the manifest: the samples of `split`, or all but those of ``train``.

    Raises RunError with all that is wrong: candidates that are not predicted or are there twice,
    labels that the challenge does not know.
    """
    if challenge not in FORMATS:
        hint = did_you_mean(challenge, FORMATS) or f"; known are {', '.join(FORMATS)}"
        raise RunError(f"no challenge is called {challenge!r}{hint}")
    wanted = FORMATS[challenge]
    rows = _predictions(Path(run))
    names = _candidates(Path(candidates)) if candidates else _of_split(rows, split, Path(run))
    predicted = {row["id"]: row["predicted"] for row in rows}
    if mistakes := list(_mistakes(names, rows, predicted, wanted)):
        raise RunError(f"no answer to {challenge} was written:{listed(mistakes)}")
    answer = [(name, predicted[name]) for name in names]
    path = replace(Path(out), csv_text([wanted.columns, *answer]).encode())
    counts = Counter(label for _, label in answer)
    notes = []
    if len(names) != wanted.candidates:
        notes.append(f"{len(names)} names, {challenge} expects {wanted.candidates}")
    return Submission(path, {label: counts[label] for label in wanted.labels}, notes)


def _predictions(run: Path) -> list[dict[str, str]]:
    path = run / "predictions.csv"
    try:
        rows = _read(path)
    except FileNotFoundError as error:
        raise RunError(f"no {path}; `mer run` or `mer ensemble` makes it") from error
    if not rows or not {"id", "split", "predicted"} <= rows[0].keys():
        raise RunError(f"{path}: not the predictions of a run; `mer ensemble` writes them anew")
    return rows


def _candidates(path: Path) -> list[str]:
    try:
        rows = _read(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file of candidates") from error
    if not rows:
        raise RunError(f"{path}: no candidates; expected a column 'name' and a row each")
    if "name" not in rows[0]:
        hint = did_you_mean("name", rows[0])
        raise RunError(f"{path}: no column 'name' in {list(rows[0])}{hint}")
    return [row["name"] for row in rows]


def _of_split(rows: Sequence[Mapping[str, str]], split: str | None, run: Path) -> list[str]:
    if split is None:
        return [row["id"] for row in rows if row["split"] != TRAIN]
    known = dict.fromkeys(row["split"] for row in rows)
    if split not in known:
        hint = did_you_mean(split, known) or f"; has {', '.join(known)}"
        raise RunError(f"{run / 'predictions.csv'}: no sample is in split {split!r}{hint}")
    return [row["id"] for row in rows if row["split"] == split]


def _mistakes(
    names: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    predicted: Mapping[str, str],
    wanted: Format,
) -> Iterable[str]:
    missing = [name for name in dict.fromkeys(names) if name not in predicted]
    if missing:
        yield f"{len(missing)} of {len(names)} candidates are not predicted: {_named(missing)}"
    if twice := _twice(names):
        yield f"there twice among the candidates: {_named(twice)}"
    if twice := _twice([row["id"] for row in rows]):
        yield f"predicted twice: {_named(twice)}"
    labels = {predicted[name] for name in names if name in predicted}
    if unknown := sorted(labels - set(wanted.labels)):
        known = ", ".join(wanted.labels)
        yield f"labels that the challenge does not know: {_named(unknown)}; it knows {known}"
    if not names:
        yield "there is no candidate: all samples are in train"


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _named(names: Sequence[str]) -> str:
    return few([repr(name) for name in names])


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restval="", strict=True)
            return [{str(k).strip(): str(v).strip() for k, v in row.items()} for row in rows]
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"cannot read {path}: {error}") from error
