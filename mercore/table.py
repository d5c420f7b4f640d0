"""The rows of a manifest as text, column by column: what CSV and JSONL have in common."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mercore.errors import ManifestError, did_you_mean

MEDIA = ("video", "audio", "text")
STREAMS = (*MEDIA, "id")
"""The columns that a component may read."""
KNOWN = ("id", "split", "label", *MEDIA)
MANIFESTS = (".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Table:
    """All rows in the order of the file, without blank ones; values have no space around them."""

    lines: Sequence[int]
    """The line each row ends on, from 1."""
    columns: Mapping[str, Sequence[str]]
    """Those that mean something, each of them; ``""`` where a row has no value."""
    others: Sequence[Mapping[str, str]]
    """The other columns, by row."""

    def __getitem__(self, column: str) -> Sequence[str]:
        return self.columns[column]

    @classmethod
    def read(cls, path: Path, *, bare: bool = False) -> Table:
        """Return the rows of the file; raises ManifestError where it is no such table.

        A table without a column of media is one only where it may be `bare`.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return _from_json(path, lines) if _is_json(path) else _from_csv(path, lines, bare)
        except OSError as error:
            raise ManifestError(
                f"cannot read the manifest {path}: {error.strerror}; name one with --manifest"
            ) from error
        except UnicodeDecodeError as error:
            raise ManifestError(
                f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8"
            ) from error


def read_csv(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a csv file without space around values; ManifestError where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in needed:
            if column not in header:
                hint = did_you_mean(column, header)
                raise ManifestError(f"{path}: no column {column!r} in {header}{hint}")
        for row in filter(None, reader):
            if len(row) > len(header):
                where = f"{path.name}:{reader.line_num}"
                raise ManifestError(f"{where}: more fields than columns; quote text with commas")
            row += [""] * (len(header) - len(row))
            yield {name: value.strip() for name, value in zip(header, row, strict=True)}
    except csv.Error as error:
        raise ManifestError(f"{path.name}:{reader.line_num}: {error}") from error


def _is_json(path: Path) -> bool:
    return path.suffix != ".csv" and path.suffix in MANIFESTS


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return the rows, the header among them, as csv with lines that end in a line feed."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _from_csv(path: Path, text: Iterable[str], bare: bool) -> Table:
    reader = csv.reader(text, strict=True)
    lines: list[int] = []
    try:
        header = next(reader, [])
        _check_header(path, header, bare)
        width = len(header)
        columns: list[list[str]] = [[] for _ in header]
        for row in reader:
            if len(row) > width:
                raise ManifestError(
                    f"{path.name}:{reader.line_num}: more fields than columns; "
                    'put double quotes around text that holds commas: "yes, I know"'
                )
            if row:  # not a blank line
                lines.append(reader.line_num)
                row += [""] * (width - len(row))
                for column, value in zip(columns, row, strict=True):
                    column.append(value.strip())
    except csv.Error as error:
        raise ManifestError(f"{path.name}:{reader.line_num}: {error}") from error
    others = dict(zip(header, columns, strict=True))
    known = {name: others.pop(name, [""] * len(lines)) for name in KNOWN}
    return Table(lines, known, _by_row(others, len(lines)))


def _by_row(columns: Mapping[str, Sequence[str]], rows: int) -> list[Mapping[str, str]]:
    if not columns:
        return [{}] * rows
    values = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def _check_header(path: Path, header: Sequence[str], bare: bool) -> None:
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
    if not bare and not set(MEDIA) & set(header):
        raise ManifestError(f"{path.name}:1: none of the columns {', '.join(MEDIA)}")


def _from_json(path: Path, text: Iterable[str]) -> Table:
    lines, rows = [], []
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_json_row(line))
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
            raise ManifestError(f"{path.name}:{number}: {error}") from error
        lines.append(number)
    columns = {name: [row.pop(name, "") for row in rows] for name in KNOWN}
    return Table(lines, columns, rows)


def _json_row(line: str) -> dict[str, str]:
    """Return the object on a line, its values as text; raises ValueError where there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {line[:40]!r}")
    plain = {name: _plain(value) for name, value in row.items()}
    "".join([*plain, *plain.values()]).encode()  # JSON can say half a character, "\\ud83d" alone
    return plain


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
