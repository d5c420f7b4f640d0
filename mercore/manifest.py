"""The manifest: one row a sample.

CSV or JSONL with the columns ``id, split, label`` and any of ``video, audio, text``. ``text`` is
the words themselves or the path of a .txt file. Relative paths are relative to the manifest.
Other columns are kept in ``Sample.extra``.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean, listed

MEDIA = ("video", "audio", "text")
KNOWN = ("id", "split", "label", *MEDIA)
MANIFESTS = (".csv", ".jsonl", ".ndjson")
UNLABELLED = "unlabelled"
TRAIN = "train"
_TEST = re.compile(r"test\w*")
_SHOWN = 20  # mistakes printed at once; a whole wrong column would fill the screen


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of the manifest."""

    id: str
    split: str
    """``train``, ``unlabelled`` or a name that starts with ``test``."""
    label: str | None
    media: dict[str, str]
    """``video``, ``audio``: absolute paths; ``text``: the words, or the absolute path of a .txt."""
    extra: dict[str, str] = field(default_factory=dict)

    def file(self, stream: str) -> str | None:
        """Return the path of the stream's file; audio is taken from the video when it has none."""
        if stream == "audio" and "audio" not in self.media:
            stream = "video"
        value = self.media.get(stream)
        return None if stream == "text" and value and not is_text_file(value) else value


@dataclass(frozen=True)
class Manifest:
    """All samples, in the order of the file."""

    path: Path
    samples: tuple[Sample, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, ``train`` first, ``unlabelled`` last."""
        found = {sample.split for sample in self.samples}
        tests = sorted(found - {TRAIN, UNLABELLED})
        return tuple(split for split in (TRAIN, *tests, UNLABELLED) if split in found)

    @property
    def notes(self) -> dict[str, str]:
        """The other columns that have one value in every row, such as ``synthetic: true``."""
        first = self.samples[0].extra if self.samples else {}
        return {
            name: value
            for name, value in first.items()
            if value and all(sample.extra.get(name) == value for sample in self.samples)
        }

    @classmethod
    def read(cls, path: str | Path, classes: Sequence[str]) -> Manifest:
        """Return the checked manifest; raises ManifestError with every mistake and its line."""
        path = Path(path)
        samples, mistakes = [], []
        first_line: dict[str, int] = {}
        folder = os.path.abspath(path.parent)
        for line, row in _rows(path):
            found = list(_mistakes(row, classes, first_line, line, folder))
            if found:
                mistakes += [f"{path.name}:{line}: {mistake}" for mistake in found]
            else:
                samples.append(_sample(row, folder))
        if mistakes:
            raise ManifestError(_report(path, mistakes))
        if not samples:
            raise ManifestError(f"{path}: no samples; expected a header line and a row a sample")
        return cls(path, tuple(samples))


def is_text_file(text: str) -> bool:
    """Return whether the ``text`` column names a file rather than holding the words."""
    return text.endswith(".txt") and "\n" not in text


def _report(path: Path, mistakes: list[str]) -> str:
    count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
    rest = [f"... and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
    return f"{path} has {count}:" + listed([*mistakes[:_SHOWN], *rest])


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from _json_rows(path, lines) if _is_json(path) else _csv_rows(path, lines)
    except OSError as error:
        raise ManifestError(
            f"cannot read the manifest {path}: {error.strerror}; name one with --manifest"
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _is_json(path: Path) -> bool:
    return path.suffix != ".csv" and path.suffix in MANIFESTS


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        _check_header(path, header)
        for row in reader:
            if len(row) > len(header):
                raise ManifestError(
                    f"{path.name}:{reader.line_num}: more fields than columns; "
                    'put double quotes around text that holds commas: "yes, I know"'
                )
            if row:  # not a blank line
                values = map(str.strip, row)
                yield reader.line_num, dict(zip_longest(header, values, fillvalue=""))
    except csv.Error as error:
        raise ManifestError(f"{path.name}:{reader.line_num}: {error}") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise ManifestError(f"{path.name}:1: column {min(twice)!r} occurs twice")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ManifestError(f"{path.name}:1: one column {header[0]!r}; separate columns by commas")
    for column in ("id", "split"):
        if column not in header:
            hint = did_you_mean(column, header)
            raise ManifestError(f"{path.name}:1: no column {column!r} in {list(header)}{hint}")
    for name in header:
        meant = did_you_mean(name, set(KNOWN) - set(header))
        if name not in KNOWN and meant:
            raise ManifestError(f"{path.name}:1: unknown column {name!r}{meant}")
    if not set(MEDIA) & set(header):
        raise ManifestError(f"{path.name}:1: none of the columns {', '.join(MEDIA)}")


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(f"{path.name}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{path.name}:{number}: expected an object, found {line[:40]!r}")
        yield number, {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _mistakes(
    row: dict[str, str], classes: Sequence[str], seen: dict[str, int], line: int, folder: str
) -> Iterator[str]:
    identifier, split, label = row.get("id", ""), row.get("split", ""), row.get("label", "")
    if not identifier:
        yield "no id"
    elif seen.setdefault(identifier, line) != line:
        yield f"id {identifier!r} is already on line {seen[identifier]}"
    if split not in (TRAIN, UNLABELLED) and not _TEST.fullmatch(split):
        known = (TRAIN, UNLABELLED, "test")
        hint = did_you_mean(split, known)
        yield (
            f"split {split!r}: expected train, unlabelled, or test and any letters, digits "
            f"and '_'{hint}"
        )
    if label and label not in classes:
        hint = did_you_mean(label, classes) or f"; the classes are {', '.join(classes)}"
        yield f"label {label!r} is not a class of the registry{hint}"
    if split == TRAIN and not label:
        yield "a train sample needs a label"
    yield from _media_mistakes(row, folder)


def _media_mistakes(row: dict[str, str], folder: str) -> Iterator[str]:
    given = [name for name in MEDIA if row.get(name)]
    if not given:
        yield f"none of {', '.join(MEDIA)} is given"
    for name in given:
        value = row[name]
        if name == "text" and not is_text_file(value):
            continue
        path = os.path.join(folder, value)
        if not os.path.isfile(path):
            found = "is a folder" if os.path.isdir(path) else "no such file"
            yield f"{name}: {found}: {value!r}, looked in {folder!r}"


def _sample(row: dict[str, str], folder: str) -> Sample:
    media = {}
    for name in MEDIA:
        value = row.get(name, "")
        if value:
            words = name == "text" and not is_text_file(value)
            media[name] = value if words else os.path.join(folder, value)
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    return Sample(row["id"], row["split"], row.get("label") or None, media, extra)
