"""What a folder of clips holds, and how a layout of one is recognised and read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean, few, listed
from mercore.layouts._files import Clips
from mercore.manifest import TRAIN, UNLABELLED, Sample
from mercore.submission import EMOTIONS

SENTIMENTS = ("negative", "neutral", "positive")
_ORDERS = (EMOTIONS, SENTIMENTS, ("neutral", "happy", "sad", "angry"))


@dataclass(frozen=True)
class Wanted:
    """What a user asks for."""

    folder: Path
    labels: Path | None = None
    """The label file, where it is not the one of the layout."""
    classes: tuple[str, ...] = ()
    """The classes in their order; none: those that are found."""
    trust_pickles: bool = False


@dataclass(frozen=True)
class Found:
    """What a folder of clips holds."""

    samples: Sequence[Sample]
    """Paths are absolute."""
    classes: tuple[str, ...]
    language: str = ""
    """What is spoken: ``en``, ``zh``, or ``""`` where nobody can tell."""
    lost: Sequence[str] = ()
    """The names of labels without a clip."""
    notes: Sequence[str] = ()
    """What a user should know of the data."""


@dataclass(frozen=True)
class Layout:
    """How a data set keeps its clips and labels."""

    name: str
    expects: str
    """The files it is made of, in a line."""
    source: str
    """Where that is written."""
    fits: Callable[[Path], bool]
    """Whether a folder looks like it; reads no more than names and the heads of files."""
    read: Callable[[Wanted], Found]
    """Raises ManifestError where files are wrong."""


@dataclass(frozen=True)
class Row:
    """What a label file says of one clip."""

    clip: str
    """The name of its files, without the ending."""
    split: str
    label: str = ""
    text: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    """The id of the sample, where it is not the name of the files."""


def matched(rows: Iterable[Row], clips: Clips) -> tuple[list[Sample], list[str]]:
    """Return the samples of the rows whose files are there, and the names of the others."""
    samples, lost = [], []
    for row in rows:
        media = clips.get(row.clip)
        if media is None:
            lost.append(row.id or row.clip)
            continue
        media = media | ({"text": row.text} if row.text else {})
        name = safe_id(row.id or row.clip)
        # What has no label cannot be trained on.
        split = UNLABELLED if row.split == TRAIN and not row.label else row.split
        samples.append(Sample(name, split, row.label or None, media, row.extra))
    return samples, lost


def found(
    samples: Sequence[Sample],
    wanted: Wanted,
    *,
    where: Path,
    order: Sequence[str] = (),
    language: str = "",
    lost: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Found:
    """Return what is found of the wanted classes; raises ManifestError where that is nothing.

    Labelled samples of other classes are left out, and a note says so. `order` is the classes in
    the order of the data set; those without a sample are left out.
    """
    if not samples:
        named = f"; labels without a clip: {few(lost)}" if lost else ""
        raise ManifestError(f"{where}: no clip with a label{named}")
    _check_once(samples, where)
    labels = {sample.label for sample in samples if sample.label}
    classes = wanted.classes or in_order(labels, order)
    _check_classes(classes, labels, where)
    kept = [sample for sample in samples if not sample.label or sample.label in classes]
    out = Counter(sample.label for sample in samples if sample.label not in (*classes, None))
    if out:
        counts = ", ".join(f"{count} {label}" for label, count in out.most_common())
        notes = [*notes, f"left out, for they are of no class: {counts}; --classes takes others"]
    trained = {sample.label for sample in kept if sample.split == TRAIN}
    if bare := [name for name in classes if name not in trained]:
        notes = [*notes, f"no clip of the train split is labelled {', '.join(bare)}"]
    return Found(kept, classes, language, lost, notes)


def in_order(labels: Collection[str], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels in the order of the data set, a usual one, or by name, neutral first."""
    for known in (order, *_ORDERS):
        if set(labels) <= set(known):
            return tuple(label for label in known if label in labels)
    return tuple(sorted(labels, key=lambda label: (label != "neutral", _number(label), label)))


def safe_id(name: str) -> str:
    """Return the name as letters, digits, '.', '-' and '_' alone."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "_"


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return 0.0


def _check_once(samples: Sequence[Sample], where: Path) -> None:
    counts = Counter(sample.id for sample in samples)
    twice = [f"{name!r}: {count} clips" for name, count in counts.items() if count > 1]
    if twice:
        raise ManifestError(
            f"{where}: a clip needs a name of its own; rename, or remove the copies:"
            + listed([*twice[:20], *(["..."] if len(twice) > 20 else [])])
        )


def _check_classes(classes: Sequence[str], labels: Collection[str], where: Path) -> None:
    missing = [name for name in classes if name not in labels]
    if missing:
        hint = did_you_mean(missing[0], labels) or f"; the labels are {', '.join(sorted(labels))}"
        raise ManifestError(f"{where}: no clip is labelled {missing[0]!r}{hint}")
    folded = Counter(name.casefold() for name in classes)
    alike = [name for name in classes if folded[name.casefold()] > 1]
    if alike:
        raise ManifestError(
            f"{where}: labels {', '.join(map(repr, alike))} differ in case alone; write them alike"
        )
    if len(classes) < 2:
        shown = repr(classes[0]) if classes else "none"
        raise ManifestError(f"{where}: the labels are {shown}; at least two classes are needed")
