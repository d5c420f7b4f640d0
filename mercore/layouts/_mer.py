"""MER2023, MER2024 and MER2025: as the challenges give them, and as MERTools prepares them.

Sources, all in zeroQiaoba/MERTools: MER2024/toolkit/preprocess/mer2023.py (``train`` and ``test1``
to ``test3`` with ``train-label.csv`` and so on), mer2024.py (``video-labeled``,
``label-disdim.csv``, ``video-unlabeled...``; prepared: ``video``, ``label-6way.npz``), config.py
(``audio``, ``transcription-...csv``), main-asr.py (``label-transcription.csv``; columns ``name,
sentence``) and MER2025/MER2025_Track1/README.md (``track1_train_disdim.csv``,
``track_all_candidates.csv``, ``subtitle_chieng.csv``). The labels of the test samples of MER2024
came later as ``reference-semi.csv`` and ``reference-noise.csv``, with the same columns.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mercore.errors import ManifestError
from mercore.layouts._files import Clips, clips_in
from mercore.layouts._found import Found, Layout, Row, Wanted, found, matched
from mercore.manifest import TRAIN, UNLABELLED
from mercore.mertools import CLASSES, Label, read_labels, read_transcripts
from mercore.mertools._labels import placeholders
from mercore.table import read_csv

_PREPARED = ("label-6way.npz", "track1_label_6way.npz")
_FOLDERS = (
    "video", "audio", "video-labeled", "audio-labeled", "video-unlabeled", "audio-unlabeled",
    "video-unlabeled-with-test2noise", "train", "test1", "test2", "test3",
)  # fmt: skip
_TRANSCRIPTS = (
    "transcription-engchi-polish.csv", "transcription-merge.csv", "transcription.csv",
    "label-transcription.csv", "track1_subtitle_chieng.csv", "subtitle_chieng.csv",
)  # fmt: skip


@dataclass(frozen=True)
class _Edition:
    """One year's challenge."""

    labels: Mapping[str, str]
    """File with labels to the split of its samples; the first is that of the train samples."""
    candidates: Mapping[str, str]
    """File with the names of test samples, and maybe labels, to their split."""
    whole: tuple[str, ...] = ()
    """Folders all of whose clips are of the test split of that name."""


_2023 = _Edition(
    {"train-label.csv": TRAIN} | {f"test{n}-label.csv": f"test{n}" for n in (1, 2, 3)},
    {},
    ("test1", "test2", "test3"),
)
_2024 = _Edition(
    {"label-disdim.csv": TRAIN},
    {"reference-semi.csv": "test_semi", "reference-noise.csv": "test_noise"},
)
_2025 = _Edition(
    {"track1_train_disdim.csv": TRAIN},
    {"track1_test_dis.csv": "test", "track_all_candidates.csv": "test"},
)


def _has(edition: _Edition) -> Callable[[Path], bool]:
    first = next(iter(edition.labels))
    return lambda folder: (folder / first).is_file()


def _prepared(folder: Path) -> tuple[Path, list[str]] | None:
    """Return the npz that MERTools prepared, and the splits in it."""
    for name in _PREPARED:
        path = folder / name
        if path.is_file():
            try:
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
            except (OSError, zipfile.BadZipFile):
                names = []
            return path, [name.removesuffix("_corpus.npy") for name in names]
    return None


def _fits_2023(folder: Path) -> bool:
    prepared = _prepared(folder)
    return _has(_2023)(folder) or (prepared is not None and "test3" in prepared[1])


def _fits_2024(folder: Path) -> bool:
    prepared = _prepared(folder)
    if prepared is None or _has(_2025)(folder) or _has(_2023)(folder):
        return _has(_2024)(folder)
    return prepared[0].name == _PREPARED[0] and "test3" not in prepared[1]


def _fits_2025(folder: Path) -> bool:
    return _has(_2025)(folder) or (folder / _PREPARED[1]).is_file()


def _reader(edition: _Edition) -> Callable[[Wanted], Found]:
    def read(wanted: Wanted) -> Found:
        folder = wanted.folder
        clips = clips_in(folder / name for name in _FOLDERS)
        labels, notes = _labels(wanted, edition)
        words, more = _words(folder)
        rows = [*_labelled(labels, words), *_others(folder, edition, labels, clips, words)]
        samples, lost = matched(rows, clips)
        return found(
            samples, wanted, where=folder, order=CLASSES, language="zh", lost=lost,
            notes=[*notes, *more],
        )  # fmt: skip

    return read


def _labels(wanted: Wanted, edition: _Edition) -> tuple[list[Label], list[str]]:
    """Return what is known of samples by name, each once, and what to say of it."""
    labels = {label.name: label for label in _given(wanted, edition)}
    for label in _candidates(wanted.folder, edition):
        labels.setdefault(label.name, label)
    false = placeholders(labels.values())
    notes = [
        f"all samples of {split} are labelled {label!r}, which stands for a label that is not "
        "known; taken as not labelled"
        for split, label in false.items()
    ]
    known = [x.without_label() if x.split in false else x for x in labels.values()]
    return known, notes


def _given(wanted: Wanted, edition: _Edition) -> Iterator[Label]:
    """Yield the labels of the file that was asked for, or of those of the challenge."""
    if wanted.labels:
        yield from read_labels(wanted.labels, trust_pickles=wanted.trust_pickles)
        return
    there = [name for name in edition.labels if (wanted.folder / name).is_file()]
    for name in there:
        for label in read_labels(wanted.folder / name):
            yield replace(label, split=edition.labels[name])
    prepared = None if there else _prepared(wanted.folder)
    if prepared:
        yield from read_labels(prepared[0], trust_pickles=wanted.trust_pickles)
    elif not there:
        names = ", ".join([*edition.labels, *_PREPARED])
        raise ManifestError(f"{wanted.folder}: none of {names}; name the labels with --labels")


def _candidates(folder: Path, edition: _Edition) -> Iterator[Label]:
    for name, split in edition.candidates.items():
        if (folder / name).is_file():
            for row in read_csv(folder / name, ("name",)):
                label = row.get("discrete", "")
                yield Label(row["name"], split, label if label in CLASSES else "")


def _words(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the words of each sample by language, from the first file there is."""
    for name in _TRANSCRIPTS:
        if (folder / name).is_file():
            return read_transcripts(folder / name), [f"the words are those of {name}"]
    return {}, ["no transcription file: no words"]


def _labelled(labels: list[Label], words: Mapping[str, Mapping[str, str]]) -> Iterator[Row]:
    for label in labels:
        extra = {"valence": label.valence} if label.valence else {}
        yield _row(label.name, label.split, label.label, words, extra)


def _others(
    folder: Path,
    edition: _Edition,
    labels: list[Label],
    clips: Clips,
    words: Mapping[str, Mapping[str, str]],
) -> Iterator[Row]:
    """Yield the clips that no label file names: unlabelled, or of a test split without labels."""
    named = {label.name for label in labels}
    labelled = {label.split for label in labels}
    for name, media in clips.items():
        if name not in named:
            parent = Path(next(iter(media.values()))).parent.name
            is_test = parent in edition.whole and parent not in labelled
            yield _row(name, parent if is_test else UNLABELLED, "", words, {})


def _row(
    name: str,
    split: str,
    label: str,
    words: Mapping[str, Mapping[str, str]],
    extra: Mapping[str, str],
) -> Row:
    said = dict(words.get(name, {}))
    text = said.pop(next(iter(said)), "") if said else ""
    return Row(name, split, label, text, {**extra, **said})


_SOURCE = "https://github.com/zeroQiaoba/MERTools"
_AFTER = "; or `label-6way.npz` and `video`, as MERTools prepares them"
MER2023 = Layout(
    "mer2023",
    "`train-label.csv`, `test1-label.csv`, ...; `train/*.avi`, `test1/`, ..." + _AFTER,
    f"{_SOURCE}/blob/master/MER2024/toolkit/preprocess/mer2023.py",
    _fits_2023,
    _reader(_2023),
)
MER2024 = Layout(
    "mer2024",
    "`label-disdim.csv`, `video-labeled/*.mp4`, `video-unlabeled/`, `label-transcription.csv`, "
    "`reference-semi.csv`" + _AFTER,
    f"{_SOURCE}/blob/master/MER2024/toolkit/preprocess/mer2024.py",
    _fits_2024,
    _reader(_2024),
)
MER2025 = Layout(
    "mer2025",
    "`track1_train_disdim.csv`, `track_all_candidates.csv`, `subtitle_chieng.csv`, `video`, "
    "`audio`; or `track1_label_6way.npz`",
    f"{_SOURCE}/tree/master/MER2025/MER2025_Track1",
    _fits_2025,
    _reader(_2025),
)
