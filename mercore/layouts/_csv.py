"""The csv of a plain folder of clips: names and labels in columns of any usual names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean, listed
from mercore.layouts._found import Row, safe_id
from mercore.manifest import TRAIN, UNLABELLED, Sample, split_name
from mercore.table import KNOWN, read_csv

MEDIA_FOLDER = re.compile(r"(videos?|audios?|wavs?|clips?|texts?|transcripts?)", re.IGNORECASE)
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "name": (
        "name", "file", "filename", "file_name", "filepath", "path", "clip", "video", "audio",
        "wav", "id", "clip_id", "utterance_id", "sample",
    ),
    "label": ("label", "emotion", "class", "discrete", "category", "target", "sentiment"),
    "text": ("text", "transcript", "transcription", "sentence", "utterance", "words"),
    "split": ("split", "set", "subset", "mode", "partition"),
}  # fmt: skip
"""The usual names of columns, the likeliest first; small and capital letters are the same."""


@dataclass(frozen=True)
class Clip:
    """A clip of the folder."""

    media: Mapping[str, str]
    parts: tuple[str, ...]
    """The names of the folders above it that are neither split nor medium."""
    split: str
    """``""`` where no folder says it."""


def words_alone(folder: Path, labels: Path | None) -> list[Sample]:
    """Return the samples of a csv of words, where there is no clip."""
    rows = list(read_csv(labels, ())) if labels else []
    if not rows or not {"name", "label", "text"} <= set(_columns(rows[0])):
        raise ManifestError(
            f"{folder}: no clips in it; expected videos or recordings, or a csv with the columns "
            "name, label, text"
        )
    columns = _columns(rows[0])
    samples = []
    for row in rows:
        given = {use: row[name] for use, name in columns.items()}
        read = _row("", given, _extra(row, columns), Clip({}, (), ""), given["name"])
        media = {"text": read.text}
        samples.append(Sample(safe_id(read.id), read.split, read.label or None, media, read.extra))
    return samples


def csv_in(folder: Path) -> Path | None:
    """Return the csv in the folder that has labels; raises ManifestError for several."""
    there = [path for path in sorted(folder.glob("*.csv")) if _has_labels(path)]
    if len(there) > 1:
        names = listed(f"--labels {path}" for path in there)
        raise ManifestError(f"{folder}: which of these has the labels?{names}")
    return there[0] if there else None


def _has_labels(path: Path) -> bool:
    try:
        row = next(read_csv(path, ()), None)
    except ManifestError:
        return False
    columns = _columns(row or {})
    return {"name", "label"} <= set(columns)


def _columns(row: Mapping[str, str]) -> dict[str, str]:
    """Return what each column is for: the first of the usual names that the csv has."""
    given = {name.casefold().replace(" ", "_"): name for name in row}
    chosen = {
        use: next((given[name] for name in usual if name in given), "")
        for use, usual in _COLUMNS.items()
    }
    return {use: name for use, name in chosen.items() if name}


def listed_in(
    path: Path, folder: Path, clips: Mapping[str, Clip], names: Mapping[str, str]
) -> tuple[list[Row], list[str]]:
    """Return the rows of a csv whose clips are there, and the names of the others."""
    rows, lost = [], []
    known = _known(clips)
    whole = list(read_csv(path, ()))
    columns = _checked_columns(whole, path)
    for row in whole:
        given = {use: row[name] for use, name in columns.items()}
        key = _key(given["name"], folder, known, path)
        if key is None:
            lost.append(given["name"])
        else:
            rows.append(_row(key, given, _extra(row, columns), clips[key], names[key]))
    twice = [name for name, count in Counter(row.clip for row in rows).items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: {twice[0]!r} is there twice; keep one row a clip")
    return rows, lost


def _checked_columns(rows: Sequence[Mapping[str, str]], path: Path) -> dict[str, str]:
    """Return what each column is for; raises ManifestError without one of names or labels."""
    if not rows:
        raise ManifestError(f"{path}: no rows; expected a header line and a row a clip")
    columns = _columns(rows[0])
    if missing := {"name", "label"} - set(columns):
        usual = "; ".join(f"{use}: {', '.join(_COLUMNS[use])}" for use in sorted(missing))
        raise ManifestError(f"{path}: no column for {usual}; it has {', '.join(rows[0])}")
    return columns


def _row(
    key: str, given: Mapping[str, str], extra: Mapping[str, str], clip: Clip, name: str
) -> Row:
    label = given["label"]
    split = split_name(given["split"]) if given.get("split") else clip.split
    split = split or (TRAIN if label else UNLABELLED)
    return Row(key, split, label, given.get("text", ""), extra, name)


def _extra(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the other columns, but for one that a manifest would take for another."""
    rest = {name: value for name, value in row.items() if name not in columns.values() and value}
    return {name: value for name, value in rest.items() if name and not did_you_mean(name, KNOWN)}


def _known(clips: Mapping[str, Clip]) -> dict[str, list[str]]:
    """Return the clips that each name may mean: a path with or without folders and ending."""
    known: dict[str, list[str]] = {}
    for key in clips:
        parts = key.split("/")
        for start in range(len(parts)):
            known.setdefault("/".join(parts[start:]), []).append(key)
    return known


def _key(given: str, folder: Path, known: Mapping[str, list[str]], path: Path) -> str | None:
    """Return the clip that a row means; raises ManifestError where several may be meant."""
    plain = given.replace("\\", "/").removeprefix("./")
    for above in (os.path.abspath(folder), folder.resolve().name):
        plain = plain.removeprefix(f"{above}/")
    without = re.sub(r"\.\w{2,4}$", "", plain)
    parts = [part for part in without.split("/") if not MEDIA_FOLDER.fullmatch(part)]
    for name in (plain, without, "/".join(parts)):
        keys = known.get(name, [])
        if len(keys) > 1:
            raise ManifestError(
                f"{path}: {given!r} may be {' or '.join(keys)}; write the path of the clip"
            )
        if keys:
            return keys[0]
    return None
