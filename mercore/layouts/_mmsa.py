"""CMU-MOSI, CMU-MOSEI and CH-SIMS as MMSA shares them: ``Raw/VIDEO/CLIP.mp4`` and label.csv.

Sources: thuiar/MMSA-FET, src/MSA_FET/dataset.py (the paths of the clips, the columns ``video_id,
clip_id, text, label, label_T, label_A, label_V, annotation, mode``); thuiar/MMSA, README and issue
121 (a row of CH-SIMS, whose clip_id may have lost its leading zeros: ``video_0001`` and ``1`` are
``Raw/video_0001/0001.mp4``). The label is a number, -3 to 3, of CH-SIMS -1 to 1; annotation is its
sign in words. MOSI has 93 videos (Zadeh et al. 2016, "MOSI", arXiv:1606.06259), MOSEI thousands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from mercore.errors import ManifestError
from mercore.layouts._files import Clips, clips_in
from mercore.layouts._found import SENTIMENTS, Found, Layout, Row, Wanted, found, matched
from mercore.manifest import split_name
from mercore.table import read_csv

_LABELS, _RAW = "label.csv", "Raw"
_COLUMNS = ("video_id", "clip_id")
_SIMS = re.compile(r"video_\d+")
_VIDEOS_OF_MOSI = 93
_SOURCE = "https://github.com/thuiar/MMSA-FET/wiki/Dataset-and-Structure"


def _which(folder: Path) -> str:
    """Return ``mosi``, ``mosei`` or ``ch-sims``, or ``""`` for another folder."""
    path = folder / _LABELS
    if not path.is_file():
        return ""
    try:
        videos = {row["video_id"] for row in read_csv(path, _COLUMNS)}
    except ManifestError:
        return ""
    if any(_SIMS.fullmatch(name) for name in islice(videos, 1)):
        return "ch-sims"
    named = [name for name in ("mosei", "mosi") if name in folder.resolve().name.lower()]
    return named[0] if named else "mosi" if len(videos) <= _VIDEOS_OF_MOSI else "mosei"


def _is(name: str) -> Callable[[Path], bool]:
    return lambda folder: _which(folder) == name


def _reader(language: str) -> Callable[[Wanted], Found]:
    def read(wanted: Wanted) -> Found:
        labels = wanted.labels or wanted.folder / _LABELS
        clips = _clips(wanted.folder)
        samples, lost = matched(_rows(labels, clips), clips)
        known = {sample.media["video"] for sample in samples if "video" in sample.media}
        rest = sum(clip.get("video") not in known for clip in clips.values())
        notes = [f"{rest} clips have no row in {labels.name} and were left out"] if rest else []
        return found(
            samples, wanted, where=labels, order=SENTIMENTS, language=language, lost=lost,
            notes=notes,
        )  # fmt: skip

    return read


def _clips(folder: Path) -> Clips:
    """Return the clips by ``VIDEO/CLIP``."""
    raw = folder / _RAW
    if not raw.is_dir():
        raise ManifestError(f"{folder}: no folder {_RAW!r}; expected {_RAW}/VIDEO_ID/CLIP_ID.mp4")
    return {
        f"{video.name}/{name}": media
        for video in sorted(raw.iterdir())
        for name, media in clips_in([video]).items()
    }


def _rows(path: Path, clips: Clips) -> Iterator[Row]:
    for row in read_csv(path, (*_COLUMNS, "mode")):
        video, clip = row["video_id"], row["clip_id"]
        if f"{video}/{clip}" not in clips and f"{video}/{clip.zfill(4)}" in clips:
            clip = clip.zfill(4)
        label = _label(path, row)
        split = split_name(row["mode"])
        extra = {"sentiment": row["label"]} if row.get("label") else {}
        yield Row(f"{video}/{clip}", split, label, row.get("text", ""), extra, f"{video}_{clip}")


def _label(path: Path, row: Mapping[str, str]) -> str:
    """Return the annotation in small letters, or the sign of the number where there is none."""
    if annotation := row.get("annotation", "").lower():
        return annotation
    number = row.get("label", "")
    try:
        value = float(number) if number else None
    except ValueError:
        where = f"{path}: {row['video_id']}, {row['clip_id']}"
        raise ManifestError(f"{where}: label {number!r}, expected a number") from None
    return "" if value is None else SENTIMENTS[1 + (value > 0) - (value < 0)]


_EXPECTS = "`label.csv` (video_id, clip_id, text, label, annotation, mode), `Raw/VIDEO/CLIP.mp4`"
MOSI = Layout("mosi", _EXPECTS, _SOURCE, _is("mosi"), _reader("en"))
MOSEI = Layout("mosei", _EXPECTS, _SOURCE, _is("mosei"), _reader("en"))
CH_SIMS = Layout("ch-sims", _EXPECTS, _SOURCE, _is("ch-sims"), _reader("zh"))
