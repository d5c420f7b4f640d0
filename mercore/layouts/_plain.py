"""Any folder of clips: labels in a csv, or as the names of subfolders.

The folders above a clip say what it is: one called ``train``, ``val``, ``test...`` or
``unlabelled`` its split, one called ``video``, ``audio`` or ``text`` nothing but the medium, any
other its class. Files with one name beside or in such folders are one clip: ``clip.mp4``,
``clip.wav`` and ``clip.txt``, its words. A csv overrules the folders.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean, listed
from mercore.layouts._files import add, folders_below, media_files
from mercore.layouts._found import (
    Found,
    Layout,
    Row,
    Wanted,
    as_split,
    found,
    matched,
    safe_id,
)
from mercore.manifest import TRAIN, UNLABELLED, Sample, split_name
from mercore.table import KNOWN, read_csv

_DEPTH = 4
_SPLIT = re.compile(
    r"train(ing)?|val(id(ation)?)?|dev|test\w*|eval(uation)?|unlabell?ed", re.IGNORECASE
)
_MEDIA = re.compile(r"(videos?|audios?|wavs?|clips?|texts?|transcripts?)", re.IGNORECASE)
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
class _Clip:
    """A clip of the folder."""

    media: Mapping[str, str]
    parts: tuple[str, ...]
    """The names of the folders above it that are neither split nor medium."""
    split: str
    """``""`` where no folder says it."""


def _read(wanted: Wanted) -> Found:
    clips = _clips(wanted.folder)
    names = _names(clips)
    labels = wanted.labels or _csv(wanted.folder)
    notes: list[str] = []
    if not clips:
        return found(_words_alone(wanted.folder, labels), wanted, where=labels or wanted.folder)
    if labels:
        rows, lost = _listed(labels, wanted.folder, clips, names)
        rest = [key for key in clips if key not in {row.clip for row in rows}]
        rows += [Row(key, clips[key].split or UNLABELLED, id=names[key]) for key in rest]
        if rest:
            notes.append(f"{len(rest)} clips have no row in {labels.name}: unlabelled")
    else:
        rows, lost = list(_by_folder(wanted.folder, clips, names)), []
    media = {key: dict(clip.media) for key, clip in clips.items()}
    samples, _ = matched(rows, media)
    return found(samples, wanted, where=labels or wanted.folder, lost=lost, notes=notes)


def _clips(folder: Path) -> dict[str, _Clip]:
    """Return the clips by their path below the folder, without media folders and ending."""
    media: dict[str, dict[str, str]] = {}
    above: dict[str, tuple[str, ...]] = {}
    for place in folders_below(folder, _DEPTH):
        parts = place.relative_to(folder).parts
        kept = tuple(part for part in parts if not _MEDIA.fullmatch(part))
        for path, medium in media_files(place):
            key = "/".join([*kept, os.path.splitext(os.path.basename(path))[0]])
            add(media, key, medium, path)
            above[key] = kept
    return {key: _clip(given, above[key]) for key, given in media.items() if set(given) - {"text"}}


def _clip(media: Mapping[str, str], above: Sequence[str]) -> _Clip:
    splits = [part for part in above if _SPLIT.fullmatch(part)]
    parts = tuple(part for part in above if part not in splits)
    return _Clip(media, parts, split_name(splits[0]) if splits else "")


def _words_alone(folder: Path, labels: Path | None) -> list[Sample]:
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
        read = _row("", given, _extra(row, columns), _Clip({}, (), ""), given["name"])
        media = {"text": read.text}
        samples.append(Sample(safe_id(read.id), read.split, read.label or None, media, read.extra))
    return samples


def _names(clips: Mapping[str, _Clip]) -> dict[str, str]:
    """Return the id of each clip: the name of its file, or the path where two files have it."""
    counts = Counter(key.rpartition("/")[2] for key in clips)
    stems = {key: key.rpartition("/")[2] for key in clips}
    return {key: stem if counts[stem] == 1 else key for key, stem in stems.items()}


def _by_folder(folder: Path, clips: Mapping[str, _Clip], names: Mapping[str, str]) -> Iterator[Row]:
    """Yield the clips with the class that their folder is named after."""
    if not any(clip.parts for clip in clips.values()):
        raise ManifestError(
            f"{folder}: {len(clips)} clips and no label; put them into a folder a class "
            "(happy/clip.mp4), or name a csv with the columns name, label: --labels FILE"
        )
    for key, clip in clips.items():
        label = clip.parts[-1] if clip.parts else ""
        split = clip.split or (TRAIN if label else UNLABELLED)
        if split == UNLABELLED:
            label = ""
        yield Row(key, as_split(split, bool(label)), label, id=names[key])


def _csv(folder: Path) -> Path | None:
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


def _listed(
    path: Path, folder: Path, clips: Mapping[str, _Clip], names: Mapping[str, str]
) -> tuple[list[Row], list[str]]:
    """Return the rows of a csv whose clips are there, and the names of the others."""
    rows, lost = [], []
    known = _known(clips)
    for row in read_csv(path, ()):
        columns = _columns(row)
        if missing := {"name", "label"} - set(columns):
            usual = "; ".join(f"{use}: {', '.join(_COLUMNS[use])}" for use in sorted(missing))
            raise ManifestError(f"{path}: no column for {usual}; it has {', '.join(row)}")
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


def _row(
    key: str, given: Mapping[str, str], extra: Mapping[str, str], clip: _Clip, name: str
) -> Row:
    label = given["label"]
    split = split_name(given["split"]) if given.get("split") else clip.split
    split = split or (TRAIN if label else UNLABELLED)
    return Row(key, as_split(split, bool(label)), label, given.get("text", ""), extra, name)


def _extra(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the other columns, but for one that a manifest would take for another."""
    rest = {name: value for name, value in row.items() if name not in columns.values() and value}
    return {name: value for name, value in rest.items() if name and not did_you_mean(name, KNOWN)}


def _known(clips: Mapping[str, _Clip]) -> dict[str, list[str]]:
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
    parts = [part for part in without.split("/") if not _MEDIA.fullmatch(part)]
    for name in (plain, without, "/".join(parts)):
        keys = known.get(name, [])
        if len(keys) > 1:
            raise ManifestError(
                f"{path}: {given!r} may be {' or '.join(keys)}; write the path of the clip"
            )
        if keys:
            return keys[0]
    return None


PLAIN = Layout(
    "plain",
    "clips in one folder and a csv with `name`, `label`; or a folder a class, `happy/clip.mp4`",
    "",
    lambda folder: True,
    _read,
)
