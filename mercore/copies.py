"""The folder that ``mer corrupt`` writes: copies of clips, their record and their manifest.

::

    video/<id>.mp4   audio/<id>.wav
    corrupt.jsonl    one line a clip that is done, written after its files
    manifest.csv     written last
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import JsonValue

from mercore.errors import RunError
from mercore.manifest import Manifest, Sample
from mercore.table import KNOWN

_SUFFIXES = {"video": ".mp4", "audio": ".wav"}


@dataclass(frozen=True)
class Copy:
    """What was done to one clip: a line of the record."""

    id: str
    key: str
    """A hash of all that decided what was done."""
    source: str
    """The identity of the clip's files; see ``mercore.sources``."""
    files: Mapping[str, str]
    """Column of the manifest to the new file, relative to the folder."""
    audio: Mapping[str, JsonValue] | None = None
    """What the component that adds noise noted."""
    video: Mapping[str, JsonValue] | None = None
    """What the component that blurs noted."""


@dataclass(frozen=True)
class CopyFolder:
    """A folder of copies."""

    path: Path

    @property
    def manifest(self) -> Path:
        """The manifest of the copies."""
        return self.path / "manifest.csv"

    @property
    def record(self) -> Path:
        """What was done to each clip, as JSON lines."""
        return self.path / "corrupt.jsonl"

    def target(self, sample: Sample, column: str) -> str:
        """Return where the sample's new file lies, relative to the folder."""
        # An id may hold anything; a slash would name a folder.
        name = sample.id.replace("%", "%25").replace("/", "%2F")
        return f"{column}/{name}{_SUFFIXES[column]}"

    def check(self, manifest: Manifest) -> None:
        """Raise RunError where an original, or a manifest that is not ours, would be replaced."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: is a file; give a folder with --out")
        originals = {os.path.realpath(manifest.path), *_originals(manifest)}
        for target in self._targets(manifest):
            if target in originals:
                raise RunError(f"{target}: is an original; give another folder with --out")
        if self.manifest.exists() and not self.record.exists():
            raise RunError(
                f"{self.manifest}: not written by mer corrupt; give another folder with --out"
            )

    def _targets(self, manifest: Manifest) -> Iterator[str]:
        """Yield the paths that may be written, without symbolic links."""
        yield os.path.realpath(self.manifest)
        for column in _SUFFIXES:
            folder = os.path.realpath(self.path / column)
            for sample in manifest.samples:
                yield os.path.join(folder, os.path.basename(self.target(sample, column)))

    def read(self) -> dict[str, Copy]:
        """Return the lines of the record by sample id; one that was cut off does not count."""
        if not self.record.exists():
            return {}
        found: dict[str, Copy] = {}
        for line in self.record.read_text(encoding="utf-8").splitlines():
            try:
                copy = Copy(**json.loads(line))
            except (ValueError, TypeError):  # the writer was killed
                continue
            found[copy.id] = copy
        return found

    def whole(self, copy: Copy) -> bool:
        """Return whether the files of a line are there."""
        return all((self.path / file).is_file() for file in copy.files.values())

    def stale(self, manifest: Manifest, copies: Iterable[Copy]) -> list[str]:
        """Return what earlier runs left, neither copies nor originals: relative paths, sorted."""
        used = {file for copy in copies for file in copy.files.values()}
        there = (path for column in _SUFFIXES for path in (self.path / column).glob("[!.]*"))
        originals = set(_originals(manifest))
        left = (path for path in there if os.path.realpath(path) not in originals)
        return sorted({path.relative_to(self.path).as_posix() for path in left} - used)

    def place(self, file: str, write: Callable[[Path], None]) -> None:
        """Let `write` make the file under another name, then give it its own."""
        target = self.path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".partial.{target.name}")
        try:
            write(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def start(self, copies: Iterable[Copy]) -> None:
        """Write the record anew, without the line that may have been cut off."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(self.record, "".join(map(_line, copies)))

    def add(self, copy: Copy) -> None:
        """Add a line to the record."""
        with self.record.open("a", encoding="utf-8") as file:
            file.write(_line(copy))

    def finish(self, manifest: Manifest, copies: Mapping[str, Copy], lost: Collection[str]) -> None:
        """Write the record in the order of the manifest, and the manifest without the `lost`."""
        self.start(copies[id] for id in manifest.ids if id in copies)
        rows = [self._row(sample, copies.get(sample.id)) for sample in manifest.samples]
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["id"] not in lost)
        self._write(self.manifest, table.getvalue())

    def _row(self, sample: Sample, copy: Copy | None) -> dict[str, str]:
        """Return the sample's row: its new files, and the originals of those it has none of."""
        row = dict.fromkeys(KNOWN, "")
        row |= {"id": sample.id, "split": sample.split, "label": sample.label or ""}
        for column, value in sample.media.items():
            row[column] = os.path.relpath(value, self.path) if sample.file(column) else value
        return row | dict(copy.files if copy else {}) | dict(sample.extra)

    def _write(self, path: Path, text: str) -> None:
        self.place(path.name, lambda partial: _write_text(partial, text))


def _originals(manifest: Manifest) -> Iterator[str]:
    for sample in manifest.samples:
        given = (sample.media[column] for column in _SUFFIXES if column in sample.media)
        yield from map(os.path.realpath, given)


def _line(copy: Copy) -> str:
    return json.dumps(asdict(copy), ensure_ascii=False) + "\n"


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
