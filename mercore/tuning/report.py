"""The report of the training of an encoder, or of several side by side.

Keys of report.json (``format`` 1): ``title``, ``created`` and ``trainings``, a list of

- ``name``, of the folder; ``about``, what is in tuning.json;
- ``log``: the rows of log.csv, numbers or null; empty where none is written yet;
- ``scores``, what is in metrics.json, and of it ``waf`` (``waf``, ``low``, ``high``, ``accuracy``);
  null for a training that has not come to its end, and ``waf`` for one without labels;
- ``classes`` and ``confusion`` (counts, true class by row) of predictions.csv, or null;
- ``probe``, what is in probe.json, as `mer tune --vary` writes it, or null.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from mercore.errors import RunError
from mercore.folder import replace
from mercore.metrics import confusion
from mercore.page import render
from mercore.tuning.folder import TuningFolder, json_bytes


def write_report(path: str | Path) -> tuple[dict[str, JsonValue], Path]:
    """Return the content of report.json and the path of report.html; write both into `path`.

    It is the folder of a training, or one that has such folders, as `mer tune --vary` leaves it.
    Raises RunError where there is no training, and for files that are damaged.
    """
    folder = Path(path)
    report: dict[str, JsonValue] = {
        "format": 1,
        "title": folder.absolute().name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "trainings": [_training(each) for each in _found(folder)],
    }
    replace(folder / "report.json", json_bytes(report))
    page = replace(folder / "report.html", render(report, "tuning.html.jinja").encode())
    return report, page


def _found(folder: Path) -> list[TuningFolder]:
    """Return the training in a folder, or else those in the folders inside."""
    if not folder.is_dir():
        raise RunError(f"{folder}: is no folder; expected one of `mer tune` or `mer pretrain`")
    if (folder / "tuning.json").is_file():
        return [TuningFolder(folder)]
    found = [TuningFolder(file.parent) for file in sorted(folder.glob("*/tuning.json"))]
    if not found:
        raise RunError(
            f"{folder}: holds no training of an encoder (tuning.json); expected a folder of "
            f"`mer tune` or `mer pretrain`; of `mer train` it is `mer report --out {folder}`"
        )
    return found


def _training(folder: TuningFolder) -> JsonValue:
    about, scores = folder.read("tuning.json"), folder.read("metrics.json")
    if about is None:
        raise RunError(f"{folder.path / 'tuning.json'}: is damaged; train again in another folder")
    try:
        waf = _waf(scores or {})
        classes, counts = _confusion(folder.path / "predictions.csv") if waf else (None, None)
        log = _log(folder.path / "log.csv")
    except (OSError, ValueError, TypeError, LookupError, csv.Error) as error:
        raise RunError(f"{folder.path}: one of its files is missing or damaged: {error}") from error
    return {
        "name": folder.path.absolute().name,
        "about": about,
        "log": log,
        "scores": scores,
        "waf": waf,
        "classes": classes,
        "confusion": counts,
        "probe": folder.read("probe.json"),
    }


def _waf(scores: Mapping[str, JsonValue]) -> dict[str, JsonValue] | None:
    """Return the scores of a training on labels."""
    names = {"waf": "waf", "low": "waf_low", "high": "waf_high", "accuracy": "accuracy"}
    return {to: scores[name] for to, name in names.items()} if "waf" in scores else None


def _log(file: Path) -> list[JsonValue]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            {"step": int(row.pop("step")), **{name: _number(text) for name, text in row.items()}}
            for row in csv.DictReader(lines)
        ]


def _number(text: str) -> float | None:
    return float(text) if text and math.isfinite(float(text)) else None


def _confusion(file: Path) -> tuple[list[JsonValue], list[JsonValue]]:
    """Return the classes, and ``(classes, classes)`` counts: true class by row."""
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    classes = header[3:]  # id, label, predicted and a column a class
    labels, predicted = ([classes.index(row[at]) for row in rows] for at in (1, 2))
    counts = confusion(np.array(labels), np.array(predicted), len(classes))
    return list(classes), counts.tolist()
