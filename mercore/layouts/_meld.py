"""MELD: three csv of utterances and three folders of clips.

Source: declare-lab/MELD, README (columns; ``diaX_uttY.mp4`` is Dialogue_ID X, Utterance_ID Y; the
emotions in the order of its labels) and utils/read_meld.py (``train_splits``). The archives unpack
to ``train_splits``, ``dev_splits_complete`` and ``output_repeated_splits_test``, here in the folder
itself or below ``train``, ``dev`` and ``test``; MERTools (toolkit/preprocess/meld.py) has the clips
in ``train``, ``dev`` and ``test``. Some archives have copies under other names, such as
``final_videos_testdia0_utt0.mp4``, which no row means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mercore.errors import ManifestError
from mercore.layouts._files import Clips, clips_in
from mercore.layouts._found import Found, Layout, Row, Wanted, found, matched
from mercore.manifest import Sample, split_name
from mercore.table import read_csv

EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
_FOLDERS = {
    "train": ("train_splits", "train"),
    "dev": ("dev_splits_complete", "dev_splits", "dev"),
    "test": ("output_repeated_splits_test", "test_splits", "test"),
}
_CLIP = re.compile(r"dia\d+_utt\d+")
_COLUMNS = ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")


def _csv(folder: Path, split: str) -> Path | None:
    """Return the csv of a split, in the folder itself or in that of the split."""
    name = f"{split}_sent_emo.csv"
    there = (path for path in (folder / name, folder / split / name) if path.is_file())
    return next(there, None)


def _fits(folder: Path) -> bool:
    return any(_csv(folder, split) for split in _FOLDERS)


def _read(wanted: Wanted) -> Found:
    if wanted.labels:
        raise ManifestError("meld has a csv for each split; leave --labels out, or --format plain")
    samples: list[Sample] = []
    lost: list[str] = []
    notes = []
    for split in _FOLDERS:
        path = _csv(wanted.folder, split)
        if path is None:
            notes.append(f"no {split}_sent_emo.csv: nothing of {split} is used")
            continue
        clips = _clips(wanted.folder, split)
        there, gone = matched(_rows(path, split), clips)
        samples += [replace(sample, id=f"{split}_{sample.id}") for sample in there]
        lost += [f"{split}_{name}" for name in gone]
        rest = len(clips) - len(there)
        notes += [f"{rest} clips of {split} have no row in {path.name}"] if rest else []
    return found(
        samples, wanted, where=wanted.folder, order=EMOTIONS, language="en", lost=lost, notes=notes
    )


def _clips(folder: Path, split: str) -> Clips:
    names = _FOLDERS[split]
    below = [folder / split / name for name in names] + [folder / name for name in names]
    for place in below:
        clips = {name: media for name, media in clips_in([place]).items() if _CLIP.fullmatch(name)}
        if clips:
            return clips
    return {}


def _rows(path: Path, split: str) -> Iterator[Row]:
    for row in read_csv(path, _COLUMNS):
        extra = {
            "dialogue": row["Dialogue_ID"],
            "speaker": row.get("Speaker", ""),
            "sentiment": row.get("Sentiment", ""),
        }
        clip = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
        yield Row(clip, split_name(split), row["Emotion"].lower(), row["Utterance"], extra)


MELD = Layout(
    "meld",
    "`train_sent_emo.csv`, `dev_...`, `test_...`; `train_splits/dia0_utt0.mp4`, "
    "`dev_splits_complete/`, `output_repeated_splits_test/`",
    "https://github.com/declare-lab/MELD",
    _fits,
    _read,
)
