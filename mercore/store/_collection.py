"""A collection: all samples of one feature or stream under one fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.errors import DamagedError, StoreError
from mercore.media import FloatArray
from mercore.store._compact import ABANDONED_SECONDS, check, clean, publish_base
from mercore.store._documents import SEAL, decoded, encoded, plain
from mercore.store._files import Files
from mercore.store._parts import Array, Entries, Part, Row, RowType
from mercore.store._segments import CommitKeys, SegmentWriter, seconds_since
from mercore.store._view import ATTEMPTS, View, load_view, named, read_rows

if TYPE_CHECKING:
    from mercore.store._dataset import SampleDataset

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """What a collection is called, and what was noted when it was made."""

    group: str
    name: str
    fingerprint: str
    header: Mapping[str, JsonValue]
    created: datetime
    """UTC."""

    @property
    def folder(self) -> str:
        """Where the collection is in its store."""
        return f"{self.group}/{self.name}@{self.fingerprint}"


class Collection:
    """Samples of one kind of row: read them in any order, commit them batch by batch.

    What other processes commit is seen when `entries` is called, and when a sample is asked for
    that is unknown or failed. Any number of processes may read, commit and compact at once.
    """

    def __init__(self, files: Files, identity: Identity) -> None:
        self.identity = identity
        self._files = files
        self._keys = CommitKeys()
        self._writer = SegmentWriter(files, self._keys)
        self._known: dict[str, Part] = {}
        self._view: View | None = None
        self._stale = True

    def __repr__(self) -> str:
        return f"Collection({self._files.named('')!r})"

    @property
    def group(self) -> str:
        """The kind of collection: ``features``, ``frames``, ``streams`` or ``trunks``."""
        return self.identity.group

    @property
    def name(self) -> str:
        """The name of the feature or stream."""
        return self.identity.name

    @property
    def fingerprint(self) -> str:
        """The hash of all that can change the numbers."""
        return self.identity.fingerprint

    @property
    def header(self) -> Mapping[str, JsonValue]:
        """What was noted at its creation: component, options, dim, frame rate and the like."""
        return self.identity.header

    @property
    def created(self) -> datetime:
        """When it was created, UTC."""
        return self.identity.created

    @property
    def rows(self) -> RowType | None:
        """What every row is; None where there are none."""
        return (self._view or self._refresh()).rows

    @property
    def dim(self) -> int | None:
        """The width of ``(rows, dim)`` samples; None for other rows, and where there are none."""
        return self.rows.shape[0] if self.rows and len(self.rows.shape) == 1 else None

    def entries(self) -> Entries:
        """Return what is known of each sample, failed ones too, in the order of first commit."""
        return self._refresh().entries

    def matrix(self, ids: Sequence[str]) -> FloatArray:
        """Return ``(n, dim)`` float32 of samples that have one row each, in the order of `ids`."""
        values, lengths = self._read(ids)
        if (lengths != 1).any():
            bad = [id for id, rows in zip(ids, lengths.tolist(), strict=True) if rows != 1]
            found = f"{len(bad)} of {len(ids)} samples do not have one row: {named(bad)}"
            raise StoreError(f"{self._where}: {found}; read them with sequences()")
        if values.ndim != 2:
            found = f"rows of shape {values.shape[1:]}"
            raise StoreError(f"{self._where}: found {found}, expected (dim,); use sequences()")
        return values.astype(np.float32, copy=False)

    def sequences(self, ids: Sequence[str], dtype: DTypeLike | None = None) -> list[Array]:
        """Return one ``(rows, *shape)`` array a sample, in the stored dtype unless one is given.

        The arrays share one buffer, which lives as long as any of them.
        """
        values, lengths = self._read(ids)
        values = values if dtype is None else values.astype(dtype, copy=False)
        ends = np.cumsum(lengths).tolist()
        return [values[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)]

    def sequence(self, id: str, dtype: DTypeLike | None = None) -> Array:
        """Return the ``(rows, *shape)`` array of one sample."""
        return self.sequences([id], dtype)[0]

    def row(self, id: str, number: int) -> Array:
        """Return one row of a sample, ``(*shape)``; its others are not read."""
        values, _ = self._read([id], (number, number + 1))
        return values[0]  # type: ignore[no-any-return]

    def dataset(self, ids: Sequence[str], labels: Sequence[int] | None = None) -> SampleDataset:
        """Return a picklable torch dataset of tensors, or of (tensor, label) pairs.

        A tensor is ``(dim,)`` float32 in the group ``features``, else ``(rows, *shape)``.
        """
        from mercore.store._dataset import SampleDataset

        return SampleDataset(self, ids, labels, vectors=self.group == "features")

    def commit(self, rows: Sequence[Row]) -> None:
        """Add samples, durably on return; one of a known id takes the place of the older.

        All or none of them are added. Rows of another dtype or shape than the collection's, and
        an id that is given twice, are a StoreError.
        """
        if not rows:
            return
        view = self._view or self._refresh()
        expected = view.rows or next((p.rows for p in self._known.values() if p.rows), None)
        part = self._writer.write(rows, expected, view.newest)
        self._known[part.folder] = part
        self._stale = True

    def compact(self) -> None:
        """Turn all segments into one base that is read fastest, and delete them.

        Readers and writers may go on meanwhile. A segment that is damaged is a StoreError.
        """
        self._retried(self._refresh(), lambda view: publish_base(self._files, view))
        clean(self._files, self._refresh().pointer)

    def tidy(self) -> None:
        """Compact where segments hold a fifth of the samples, or there are a thousand of them."""
        view = self._refresh()
        loose = [len(part.ids) for part in view.parts if part.folder.startswith("seg/")]
        if sum(loose) * 5 >= len(view.where) or len(loose) >= 1000:
            self.compact()

    def verify(self) -> None:
        """Compare all rows with their checksums; all damaged files are one StoreError."""
        self._retried(self._refresh(), lambda view: check(self._files, view))

    @contextmanager
    def busy(self) -> Iterator[int]:
        """Give how many other processes were within this before; 2 for some that came just now.

        It is good for hints only: one that was killed is counted for a day.
        """
        before = self._busy()
        key = f"busy/{self._keys.next()}.json"
        self._files.put({key: [plain({})]})
        try:
            yield before or (2 if self._busy() > 1 else 0)
        finally:
            self._files.delete(key)

    def _busy(self) -> int:
        names = self._files.list("busy")
        return sum(seconds_since(name) < ABANDONED_SECONDS for name in names)

    def note(self, entry: Mapping[str, JsonValue]) -> None:
        """Keep a small JSON object, such as the timing of a run."""
        self._files.put({f"notes/{self._keys.next()}.json": [plain(entry)]})

    def notes(self) -> list[dict[str, Any]]:
        """Return all that was noted, in order of time."""
        keys = [f"notes/{name}" for name in self._files.list("notes")]
        found = [decoded(self._files.get(key), self._files.named(key)) for key in keys]
        return [{key: value for key, value in note.items() if key != SEAL} for note in found]

    def mark(self, after: str = "") -> None:
        """Make this the one that ``store[name]`` means, of all fingerprints of that name.

        `after` is the latest mark of the others, which may be of a machine whose clock is ahead.
        """
        self._files.put({f"marks/{self._keys.next(after)}.json": [encoded({})]})

    def marked(self) -> str:
        """Return when it was marked last, as a text that sorts by time; ``""`` for never."""
        return max(self._files.list("marks"), default="")

    @property
    def _where(self) -> str:
        return self._files.named("")

    def _refresh(self) -> View:
        """Return the present view."""
        view = load_view(self._files, self._known, self._view)
        self._known = {part.folder: part for part in view.parts}
        self._view, self._stale = view, False
        return view

    def _read(
        self, ids: Sequence[str], span: tuple[int, int] | None = None
    ) -> tuple[Array, IntArray]:
        """Return the rows of the samples one after another, and how many each has.

        With a span only those from the first of its numbers to before the second, over all samples.
        """
        view = self._view
        if view is None or self._stale or view.lacking(ids):
            view = self._refresh()
        return self._retried(view, lambda view: self._read_from(view, ids, span))

    def _read_from(
        self, view: View, ids: Sequence[str], span: tuple[int, int] | None
    ) -> tuple[Array, IntArray]:
        if lacking := view.lacking(ids):
            cure = "extract them first: mer extract"
            raise StoreError(f"{self._where}: {lacking}; {cure}")
        pieces = view.locate(ids)
        if span:
            pieces = pieces.between(*span)
        return read_rows(self._files, view, pieces), pieces.count

    def _retried(self, view: View, action: Callable[[View], T]) -> T:
        """Return what `action` makes of the view, or of a newer one if that was compacted away."""
        for _ in range(ATTEMPTS):
            try:
                return action(view)
            except FileNotFoundError as error:
                newer = self._refresh()
                if _folders(newer) == _folders(view):
                    found = f"{error.filename}: missing, though it was committed"
                    raise DamagedError(f"{found}; run `mer repair`") from error
                view = newer
        raise StoreError(f"{self._where}: compacted again and again while it was read; try again")


def _folders(view: View) -> list[str]:
    return [part.folder for part in view.parts]
