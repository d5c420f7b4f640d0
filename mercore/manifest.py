"""The manifest: one row a sample.

CSV or JSONL with the columns ``id, split, label`` and any of ``video, audio, text``. ``text`` is
the words themselves or the path of a .txt file. Relative paths are relative to the manifest.
Other columns are kept in ``Sample.extra``.

It is read, checked and counted column by column; the samples are made when they are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean, listed
from mercore.root import Root
from mercore.table import MANIFESTS, MEDIA, STREAMS, Table

__all__ = [
    "MANIFESTS",
    "MEDIA",
    "STREAMS",
    "TRAIN",
    "UNLABELLED",
    "Manifest",
    "Sample",
    "is_text_file",
    "split_name",
]

UNLABELLED = "unlabelled"
TRAIN = "train"
_TEST = re.compile(r"test\w*")
_SHOWN = 20  # mistakes printed at once; a whole wrong column would fill the screen

Mistake = tuple[int, str]
"""The index of a row, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of the manifest."""

    id: str
    split: str
    """``train``, ``unlabelled`` or a name that starts with ``test``."""
    label: str | None
    media: dict[str, str]
    """``video``, ``audio``: absolute paths; ``text``: the words, or the absolute path of a .txt."""
    extra: Mapping[str, str] = field(default_factory=dict)

    def file(self, stream: str) -> str | None:
        """Return the path of the stream's file; audio is taken from the video when it has none."""
        if stream == "audio" and "audio" not in self.media:
            stream = "video"
        value = self.media.get(stream)
        return None if stream == "text" and value and not is_text_file(value) else value

    def words(self, stream: str) -> str | None:
        """Return what the row itself says in the column: its text, or its id."""
        return self.id if stream == "id" else self.media.get(stream)


@dataclass(frozen=True)
class Manifest:
    """All samples, in the order of the file."""

    path: Path
    table: Table
    """The checked rows; paths are absolute."""

    @classmethod
    def read(
        cls,
        path: str | Path,
        classes: Sequence[str],
        *,
        bare: bool = False,
        root: str | Path | None = None,
    ) -> Manifest:
        """Return the checked manifest; raises ManifestError with every mistake and its line.

        Where it may be `bare`, a row need not give a medium: its features were imported. With a
        `root` all files must lie below that folder, also those that links lead to.
        """
        path = Path(path)
        below = Root(root) if root is not None else None
        table = Table.read(path, bare=bare)
        files = {name: _files(name, table[name]) for name in MEDIA}
        folder = os.path.abspath(path.parent)
        found = [*_mistakes(table, classes), *_file_mistakes(files, folder, below)]
        found += [] if bare else _bare_rows(table)
        if found:
            found.sort(key=itemgetter(0))  # by row; the mistakes of one stay in their order
            texts = [f"{path.name}:{table.lines[row]}: {text}" for row, text in found]
            raise ManifestError(_report(path, texts))
        if not table.lines:
            raise ManifestError(f"{path}: no samples; expected a header line and a row a sample")
        return cls(path, _located(table, files, folder))

    @classmethod
    def of(cls, path: str | Path, samples: Sequence[Sample]) -> Manifest:
        """Return the manifest that these samples would be the rows of."""
        columns = {
            "id": [sample.id for sample in samples],
            "split": [sample.split for sample in samples],
            "label": [sample.label or "" for sample in samples],
        }
        columns |= {name: [sample.media.get(name, "") for sample in samples] for name in MEDIA}
        lines = range(1, 1 + len(samples))
        return cls(Path(path), Table(lines, columns, [sample.extra for sample in samples]))

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the samples."""
        return self.table["id"]

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The samples themselves."""
        media = [
            {name: value for name, value in zip(MEDIA, values, strict=True) if value}
            for values in zip(*(self.table[name] for name in MEDIA), strict=True)
        ]
        labels = [label or None for label in self.table["label"]]
        return tuple(map(Sample, self.ids, self.table["split"], labels, media, self.table.others))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, ``train`` first, ``unlabelled`` last."""
        found = set(self.table["split"])
        tests = sorted(found - {TRAIN, UNLABELLED})
        return tuple(split for split in (TRAIN, *tests, UNLABELLED) if split in found)

    @property
    def notes(self) -> dict[str, str]:
        """The other columns that have one value in every row, such as ``synthetic: true``."""
        others = self.table.others
        return {
            name: value
            for name, value in (others[0] if others else {}).items()
            if value and all(other.get(name) == value for other in others)
        }

    def gives(self, medium: str) -> bool:
        """Return whether any sample has the medium; a video is audio too."""
        return any(self.table[medium]) or (medium == "audio" and any(self.table["video"]))


def is_text_file(text: str) -> bool:
    """Return whether the ``text`` column names a file rather than holding the words."""
    return text.endswith(".txt") and "\n" not in text


def split_name(given: str) -> str:
    """Return the split that others call `given`: ``test_val`` for ``val``, which many sets have."""
    name = re.sub(r"\W", "_", given.strip()).lower()
    if name in ("training", "unlabeled"):
        return TRAIN if name == "training" else UNLABELLED
    return name if name in (TRAIN, UNLABELLED) or _TEST.fullmatch(name) else f"test_{name}"


def _report(path: Path, mistakes: list[str]) -> str:
    count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
    rest = [f"... and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
    return f"{path} has {count}:" + listed([*mistakes[:_SHOWN], *rest])


def _mistakes(table: Table, classes: Sequence[str]) -> Iterator[Mistake]:
    yield from _id_mistakes(table)
    yield from _value_mistakes(table["split"], _split_mistake)
    yield from _value_mistakes(table["label"], lambda label: _label_mistake(label, classes))
    for row, (split, label) in enumerate(zip(table["split"], table["label"], strict=True)):
        if split == TRAIN and not label:
            yield row, "a train sample needs a label"


def _bare_rows(table: Table) -> Iterator[Mistake]:
    for row, given in enumerate(map(any, zip(*(table[name] for name in MEDIA), strict=True))):
        if not given:
            yield row, f"none of {', '.join(MEDIA)} is given"


def _id_mistakes(table: Table) -> Iterator[Mistake]:
    distinct = set(table["id"])
    if len(distinct) == len(table["id"]) and "" not in distinct:
        return  # at once, as it is nearly always
    first: dict[str, int] = {}
    for row, identifier in enumerate(table["id"]):
        if not identifier:
            yield row, "no id"
        elif (earlier := first.setdefault(identifier, row)) != row:
            yield row, f"id {identifier!r} is already on line {table.lines[earlier]}"


def _value_mistakes(column: Sequence[str], mistake: Callable[[str], str]) -> Iterator[Mistake]:
    """Yield the rows whose value is wrong; `mistake` is asked once a value, not once a row."""
    wrong = {value: text for value in set(column) if (text := mistake(value))}
    if wrong:
        yield from ((row, wrong[value]) for row, value in enumerate(column) if value in wrong)


def _split_mistake(split: str) -> str:
    """Return what is wrong with the name of a split, or ``""``."""
    if split in (TRAIN, UNLABELLED) or _TEST.fullmatch(split):
        return ""
    hint = did_you_mean(split, (TRAIN, UNLABELLED, "test"))
    expected = "expected train, unlabelled, or test and any letters, digits and '_'"
    return f"split {split!r}: {expected}{hint}"


def _label_mistake(label: str, classes: Sequence[str]) -> str:
    """Return what is wrong with a label, or ``""``."""
    if not label or label in classes:
        return ""
    hint = did_you_mean(label, classes) or f"; the classes are {', '.join(classes)}"
    return f"label {label!r} is not a class of the registry{hint}"


def _files(name: str, column: Sequence[str]) -> list[tuple[int, str]]:
    """Return the rows of a medium that name a file, and the names."""
    if name == "text":
        return [(row, text) for row, text in enumerate(column) if is_text_file(text)]
    return [(row, file) for row, file in enumerate(column) if file]


def _file_mistakes(
    files: Mapping[str, Sequence[tuple[int, str]]], folder: str, root: Root | None
) -> Iterator[Mistake]:
    for name, given in files.items():
        for row, value in given:
            path = os.path.join(folder, value)
            if not os.path.isfile(path):
                found = "is a folder" if os.path.isdir(path) else "no such file"
                yield row, f"{name}: {found}: {value!r}, looked in {folder!r}"
            elif root and (outside := root.mistake(path)):
                yield row, f"{name}: {value!r} {outside}"


def _located(table: Table, files: Mapping[str, Sequence[tuple[int, str]]], folder: str) -> Table:
    """Return the table with the absolute paths of the files."""
    columns = {name: list(column) for name, column in table.columns.items()}
    for name, given in files.items():
        for row, value in given:
            columns[name][row] = os.path.join(folder, value)
    return replace(table, columns=columns)
