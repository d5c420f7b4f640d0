"""MERTools' labels and transcripts: npz of dicts, and csv."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mercore.errors import ManifestError, did_you_mean, listed
from mercore.manifest import TRAIN, UNLABELLED, split_name
from mercore.mertools._npy import Header, header
from mercore.mertools._pickles import RefusedError, read_pickle
from mercore.submission import EMOTIONS
from mercore.table import read_csv

CLASSES = EMOTIONS
"""Of MER2023, MER2024 and MER2025, in MERTools' order."""
MISSING = -10
"""What MERTools writes for a label or a valence that it does not know."""
_SHOWN = 20  # mistakes printed at once
_MANY = 20  # samples of one label that are no chance
_CORPUS = "_corpus"


@dataclass(frozen=True)
class Label:
    """What a label file says of one sample."""

    name: str
    split: str
    """``train``, ``unlabelled``, or a name that starts with ``test``."""
    label: str
    """One of the classes, or ``""``."""
    valence: str = ""
    """A number as text, or ``""``."""

    def without_label(self) -> Label:
        """Return the same sample, as one whose label is not known."""
        return replace(self, label="")


def read_labels(
    path: str | Path, classes: Sequence[str] = CLASSES, *, trust_pickles: bool = False
) -> list[Label]:
    """Return the labels of a file, in its order, each sample once.

    A csv has the columns ``name`` and ``discrete``, and maybe ``split`` and ``valence``; without a
    split a sample with a label is in ``train``, one without in ``unlabelled``. An npz has a dict
    ``NAME_corpus`` for each split, ``{name: {"emo": ..., "val": ...}}``, which is pickled: it is
    read only if `trust_pickles`, and even then nothing but plain values is made of it. The class is
    a text, or an index of `classes`.

    Raises ManifestError with all mistakes at once.
    """
    path = Path(path)
    rows = _from_npz(path, trust_pickles) if path.suffix == ".npz" else _from_csv(path)
    found, mistakes = [], []
    for name, split, emotion, valence in rows:
        try:
            found.append(Label(name, _split(split, emotion), _class(emotion, classes), valence))
        except ValueError as error:
            mistakes.append(f"{name!r}: {error}")
    counts = Counter(label.name for label in found)
    mistakes += [f"{name!r}: there {count} times" for name, count in counts.items() if count > 1]
    if mistakes:
        more = [f"... and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
        raise ManifestError(f"{path}: wrong labels:{listed([*mistakes[:_SHOWN], *more])}")
    if not found:
        raise ManifestError(f"{path}: no labels; expected a sample a row, or dicts NAME_corpus")
    return found


def read_transcripts(path: str | Path) -> dict[str, dict[str, str]]:
    """Return the words of each sample by column: ``chinese``, ``english`` or ``sentence``.

    Raises ManifestError where a column is missing or a name is there twice.
    """
    path = Path(path)
    rows = list(read_csv(path, ("name",)))
    languages = [name for name in ("chinese", "english", "sentence") if rows and name in rows[0]]
    if rows and not languages:
        raise ManifestError(f"{path}: no column 'chinese' or 'english' in {list(rows[0])}")
    counts = Counter(row["name"] for row in rows)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: there twice: {', '.join(map(repr, twice[:_SHOWN]))}")
    return {row["name"]: {name: row[name] for name in languages} for row in rows}


def corpus_name(split: str) -> str:
    """Return what MERTools calls a split."""
    return f"{split}{_CORPUS}"


def _from_csv(path: Path) -> Iterator[tuple[str, str, Any, str]]:
    for row in read_csv(path, ("name", "discrete")):
        valence = row.get("valence", "")
        yield row["name"], row.get("split", ""), row["discrete"], _valence(valence)


def _from_npz(path: Path, trusted: bool) -> Iterator[tuple[str, str, Any, str]]:
    for key, corpus in _corpora(path, trusted).items():
        split = key.removesuffix(_CORPUS)
        if not isinstance(corpus, dict):
            found = type(corpus).__name__
            raise ManifestError(f"{path}: {key}: found {found}, expected a dict of samples")
        for name, about in corpus.items():
            if not isinstance(about, dict) or "emo" not in about:
                expected = "expected {'emo': ..., 'val': ...}"
                raise ManifestError(f"{path}: {key}: {name!r}: found {_found(about)}, {expected}")
            for value in (about["emo"], about.get("val")):
                if isinstance(value, list | dict):
                    expected = "expected a text or a number"
                    raise ManifestError(f"{path}: {key}: {name!r}: found a list, {expected}")
            yield str(name), split, about["emo"], _valence(about.get("val", ""))


def _found(value: object) -> str:
    # The text of lists that hold each other can be longer than there are atoms.
    return type(value).__name__ if isinstance(value, list | dict) else repr(value)


def _corpora(path: Path, trusted: bool) -> dict[str, object]:
    """Return what the arrays of an npz hold; raises ManifestError for one it must not."""
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except Exception as error:  # zipfile and the decompressors have no error in common
        raise ManifestError(f"cannot read {path}: {error}") from error
    headers = {name: _header(path, name, data) for name, data in contents.items()}
    pickled = [name for name, found in headers.items() if found.dtype.hasobject]
    if pickled and not trusted:
        raise ManifestError(
            f"{path}: {', '.join(pickled)} are pickled, and pickles of strangers can run code; "
            "give --trust-pickles to have dicts, texts and numbers read out of them and nothing "
            "run, or a csv with the columns name, discrete"
        )
    if not pickled:
        raise ManifestError(f"{path}: holds {', '.join(contents)}; expected dicts NAME_corpus")
    try:
        return {
            name.removesuffix(".npy"): read_pickle(contents[name][headers[name].end :])
            for name in pickled
        }
    except RefusedError as error:
        expected = "expected dicts, lists, texts and numbers alone; nothing of it was run"
        raise ManifestError(f"{path}: {error}, {expected}") from error


def _header(path: Path, name: str, data: bytes) -> Header:
    try:
        return header(data)
    except ValueError as error:
        raise ManifestError(f"{path}: {name}: {error}") from error


def _split(given: str, emotion: object) -> str:
    """Return the split of the manifest; raises ValueError for a train sample without a label."""
    if not given:
        return UNLABELLED if _unknown(emotion) else TRAIN
    if given == TRAIN and _unknown(emotion):
        raise ValueError(f"no label, though it is in {TRAIN}")
    return split_name(given)


def _unknown(value: object) -> bool:
    return value in (None, "", MISSING, str(MISSING)) or value != value


def _class(emotion: object, classes: Sequence[str]) -> str:
    """Return the class a label means; raises ValueError for none of them."""
    if _unknown(emotion):
        return ""
    if emotion in classes:
        return str(emotion)
    if isinstance(emotion, int | float) and emotion in range(len(classes)):
        return classes[int(emotion)]
    hint = did_you_mean(str(emotion), classes) or f"; the classes are {', '.join(classes)}"
    raise ValueError(f"label {emotion!r} is not a class{hint}")


def _valence(value: object) -> str:
    """Return a valence as text, ``""`` where it is missing or no number."""
    try:
        number = float(str(value))
    except ValueError:
        return ""
    return "" if number != number or number == MISSING else f"{number:g}"


def placeholders(labels: Iterable[Label]) -> Mapping[str, str]:
    """Return the splits, other than ``train``, whose samples all have one label, and that label.

    MERTools gives samples without a label one all the same, ``neutral``, so that its loader runs.
    """
    kinds: dict[str, Counter[str]] = {}
    for label in labels:
        kinds.setdefault(label.split, Counter())[label.label] += 1
    return {
        split: next(iter(found))
        for split, found in kinds.items()
        if split != TRAIN and len(found) == 1 and found.total() >= _MANY and "" not in found
    }
