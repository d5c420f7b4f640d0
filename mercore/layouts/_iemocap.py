"""IEMOCAP: ``Session1`` to ``Session5``, each with sentences, labels and transcriptions.

Sources: torchaudio, datasets/iemocap.py (``sentences/wav/*/*.wav``; the lines of
``dialog/EmoEvaluation/*.txt`` that begin with '[' are times, name, label, dimensions, with tabs
between them; the four classes, and excitement counted as happiness); MERTools,
toolkit/preprocess/iemocap.py (lines of ``dialog/transcriptions``). There is no clip of one sentence
with a picture: the videos show whole dialogues, of both speakers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mercore.errors import ManifestError
from mercore.layouts._files import clips_in
from mercore.layouts._found import Found, Layout, Row, Wanted, found, matched
from mercore.manifest import TRAIN

EMOTIONS = {
    "neu": "neutral", "hap": "happy", "sad": "sad", "ang": "angry", "exc": "excited",
    "fru": "frustrated", "sur": "surprised", "fea": "fearful", "dis": "disgusted", "oth": "other",
}  # fmt: skip
"""The codes of the labels; ``xxx`` is: the annotators did not agree."""
FOUR = ("neutral", "happy", "sad", "angry")
_TEST = "test"
_LABEL = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w{3})\t", re.MULTILINE)
_SAID = re.compile(r"^(Ses\w+) \[[\d.]+-[\d.]+\]: *(.*)$", re.MULTILINE)


def _sessions(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("Session[1-5]") if path.is_dir())


def _fits(folder: Path) -> bool:
    return any((path / "dialog" / "EmoEvaluation").is_dir() for path in _sessions(folder))


def _read(wanted: Wanted) -> Found:
    if wanted.labels:
        raise ManifestError("iemocap has its labels in each session; leave --labels out")
    sessions = _sessions(wanted.folder)
    if not sessions:
        raise ManifestError(f"{wanted.folder}: no Session1 to Session5 in it")
    clips = clips_in(path for s in sessions for path in sorted(s.glob("sentences/wav/*")))
    last = sessions[-1].name if len(sessions) > 1 else ""
    apart = "excited" in wanted.classes
    rows = [row for session in sessions for row in _rows(session, session.name == last, apart)]
    samples, lost = matched(rows, clips)
    notes = ["excited counts as happy; --classes neutral,happy,sad,angry,excited keeps it apart"]
    notes = [] if apart else notes
    if last:
        notes.append(f"{last} is the test split, so that no speaker is in both; see column session")
    unused = len(clips) - len(samples)
    notes += [f"{unused} clips without an agreed label were left out"] if unused else []
    four = tuple(name for name in FOUR if any(row.label == name for row in rows))
    return found(
        samples,
        Wanted(wanted.folder, classes=wanted.classes or four),
        where=wanted.folder,
        language="en",
        lost=lost,
        notes=notes,
    )


def _rows(session: Path, is_test: bool, apart: bool) -> Iterator[Row]:
    """Yield the rows of a session; `apart`: whether excited is a class of its own."""
    said = dict(_lines(session, "transcriptions", _SAID))
    for name, code in _lines(session, "EmoEvaluation", _LABEL):
        emotion = EMOTIONS.get(code)
        if emotion is None:
            continue  # xxx: no majority
        label = "happy" if emotion == "excited" and not apart else emotion
        extra = {"session": session.name, "speaker": f"{name[:5]}{name[-4]}", "emotion": emotion}
        yield Row(name, _TEST if is_test else TRAIN, label, said.get(name, "").strip(), extra)


def _lines(session: Path, part: str, line: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for path in sorted((session / "dialog" / part).glob("[!.]*.txt")):
        # Some transcriptions hold bytes that are no UTF-8.
        yield from line.findall(path.read_text(encoding="utf-8", errors="replace"))


IEMOCAP = Layout(
    "iemocap",
    "`Session1/sentences/wav/*/*.wav`, `Session1/dialog/EmoEvaluation/*.txt`, `transcriptions/`",
    "https://pytorch.org/audio/stable/generated/torchaudio.datasets.IEMOCAP.html",
    _fits,
    _read,
)
