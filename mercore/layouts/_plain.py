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
from pathlib import Path

from mercore.errors import ManifestError
from mercore.layouts._csv import MEDIA_FOLDER, Clip, csv_in, listed_in, words_alone
from mercore.layouts._files import add, folders_below, media_files
from mercore.layouts._found import Found, Layout, Row, Wanted, found, matched
from mercore.manifest import TRAIN, UNLABELLED, split_name

_DEPTH = 4
_SPLIT = re.compile(
    r"train(ing)?|val(id(ation)?)?|dev|test\w*|eval(uation)?|unlabell?ed", re.IGNORECASE
)


def _read(wanted: Wanted) -> Found:
    clips = _clips(wanted.folder)
    names = _names(clips)
    labels = wanted.labels or csv_in(wanted.folder)
    notes: list[str] = []
    if not clips:
        return found(words_alone(wanted.folder, labels), wanted, where=labels or wanted.folder)
    if labels:
        rows, lost = listed_in(labels, wanted.folder, clips, names)
        given = {row.clip for row in rows}
        rest = [key for key in clips if key not in given]
        rows += [Row(key, clips[key].split or UNLABELLED, id=names[key]) for key in rest]
        if rest:
            notes.append(f"{len(rest)} clips have no row in {labels.name}: unlabelled")
    else:
        rows, lost = list(_by_folder(wanted.folder, clips, names)), []
    media = {key: dict(clip.media) for key, clip in clips.items()}
    samples, _ = matched(rows, media)
    return found(samples, wanted, where=labels or wanted.folder, lost=lost, notes=notes)


def _clips(folder: Path) -> dict[str, Clip]:
    """Return the clips by their path below the folder, without media folders and ending."""
    media: dict[str, dict[str, str]] = {}
    above: dict[str, tuple[str, ...]] = {}
    for place in folders_below(folder, _DEPTH):
        parts = place.relative_to(folder).parts
        kept = tuple(part for part in parts if not MEDIA_FOLDER.fullmatch(part))
        for path, medium in media_files(place):
            key = "/".join([*kept, os.path.splitext(os.path.basename(path))[0]])
            add(media, key, medium, path)
            above[key] = kept
    return {key: _clip(given, above[key]) for key, given in media.items() if set(given) - {"text"}}


def _clip(media: Mapping[str, str], above: Sequence[str]) -> Clip:
    splits = [part for part in above if _SPLIT.fullmatch(part)]
    parts = tuple(part for part in above if part not in splits)
    return Clip(media, parts, split_name(splits[0]) if splits else "")


def _names(clips: Mapping[str, Clip]) -> dict[str, str]:
    """Return the id of each clip: the name of its file, or the path where two files have it."""
    counts = Counter(key.rpartition("/")[2] for key in clips)
    stems = {key: key.rpartition("/")[2] for key in clips}
    return {key: stem if counts[stem] == 1 else key for key, stem in stems.items()}


def _by_folder(folder: Path, clips: Mapping[str, Clip], names: Mapping[str, str]) -> Iterator[Row]:
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
        yield Row(key, split, label, id=names[key])


PLAIN = Layout(
    "plain",
    "clips in one folder and a csv with `name`, `label`; or a folder a class, `happy/clip.mp4`",
    "",
    lambda folder: True,
    _read,
)
