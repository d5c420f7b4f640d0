"""The feature store: every sample is computed once, and what was committed is never lost.

::

    store = Store("mer.zarr")
    store["hubert"].matrix(ids)                              # (n, dim) float32
    hubert = store.create("features", "hubert", fingerprint, header)
    hubert.commit([Row("clip1", values), Row("clip2", None, failed="no audio")])

All of it is valid Zarr v3. A commit is one immutable segment whose metadata is written last;
compaction turns the segments into one sharded array without compression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike
from pydantic import JsonValue

from mercore._collection import Collection, Identity
from mercore._compact import empty
from mercore._disk import LocalFiles
from mercore._documents import Document, decoded, encoded
from mercore._documents import group as group_document
from mercore._files import Files
from mercore._parts import Array, Entry, Row, RowType
from mercore.errors import StoreError, did_you_mean
from mercore.media import FloatArray

if TYPE_CHECKING:
    from mercore._dataset import SampleDataset

__all__ = ["Collection", "Entry", "Feature", "Row", "RowType", "Store"]

FORMAT = 1
"""Raise it when older versions cannot read the layout any more."""


class Feature:
    """The collections of one feature: pooled to one row a sample, and as sequences."""

    def __init__(self, vectors: Collection | None, frames: Collection | None) -> None:
        self._vectors = vectors
        self._frames = frames

    @property
    def ids(self) -> list[str]:
        """The samples that have values, in the order of first commit."""
        return [id for id, entry in self._any.entries().items() if entry.failed is None]

    @property
    def header(self) -> Mapping[str, JsonValue]:
        """What was noted at its creation."""
        return self._any.header

    @property
    def fingerprint(self) -> str:
        """The hash of all that can change the numbers."""
        return self._any.fingerprint

    def matrix(self, ids: Sequence[str]) -> FloatArray:
        """Return ``(n, dim)`` float32, in the order of `ids`."""
        return self._pooled.matrix(ids)

    def sequences(self, ids: Sequence[str], dtype: DTypeLike | None = None) -> list[Array]:
        """Return one ``(frames, dim)`` array a sample, in the stored dtype unless one is given."""
        return self._sequences.sequences(ids, dtype)

    def dataset(
        self, ids: Sequence[str], labels: Sequence[int] | None = None, *, frames: bool = False
    ) -> SampleDataset:
        """Return a torch dataset of ``(dim,)`` tensors, or of ``(frames, dim)`` ones."""
        return (self._sequences if frames else self._pooled).dataset(ids, labels)

    @property
    def _any(self) -> Collection:
        collection = self._vectors or self._frames
        assert collection is not None  # a feature is made of at least one
        return collection

    @property
    def _pooled(self) -> Collection:
        if self._vectors is None:
            raise StoreError(f"{self._any!r}: kept as sequences only; use sequences()")
        return self._vectors

    @property
    def _sequences(self) -> Collection:
        if self._frames is None:
            cure = "set `frames: true` for the feature and run mer extract"
            raise StoreError(f"{self._any!r}: its sequences were not kept; {cure}")
        return self._frames


class Store:
    """All features and streams of an experiment, in one folder."""

    def __init__(
        self, path: str | Path, *, create: bool = True, files: Files | None = None
    ) -> None:
        """Open the store at `path`; a folder that is something else is a StoreError."""
        self.path = Path(path)
        self._files = files or LocalFiles(self.path)
        _open(self._files, create)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def __iter__(self) -> Iterator[str]:
        """Return the names of the features."""
        return iter(sorted({name for name, _ in self._fingerprints()}))

    def __getitem__(self, name: str) -> Feature:
        """Return a feature by ``name`` or ``name@fingerprint``.

        Of several fingerprints the one marked last is meant; a StoreError lists them if none is.
        """
        plain, _, wanted = name.partition("@")
        known = sorted({pair for pair in self._fingerprints() if pair[0] == plain})
        if not known:
            guess = did_you_mean(plain, self)
            raise StoreError(f"{self.path}: no feature {plain!r}{guess}; mer extract makes it")
        fingerprints = [fingerprint for _, fingerprint in known]
        if wanted and wanted not in fingerprints:
            raise StoreError(f"{self.path}: no {name!r}; found {_listed(plain, fingerprints)}")
        fingerprint = wanted or self._meant(plain, fingerprints)
        vectors = self.collection("features", plain, fingerprint)
        return Feature(vectors, self.collection("frames", plain, fingerprint))

    def collection(self, group: str, name: str, fingerprint: str) -> Collection | None:
        """Return a collection, or None where there is none."""
        folder = _folder(group, name, fingerprint)
        key = f"{folder}/zarr.json"
        try:
            document = decoded(self._files.get(key), self._files.named(key))
        except FileNotFoundError:
            return None
        noted = _attributes(document, self._files.named(key), "collection")
        created = datetime.fromisoformat(noted["created"])
        identity = Identity(group, name, fingerprint, noted["header"], created)
        return Collection(self._files.within(folder), identity)

    def create(
        self, group: str, name: str, fingerprint: str, header: Mapping[str, JsonValue]
    ) -> Collection:
        """Return the collection, made with this header unless it is there already."""
        folder = _folder(group, name, fingerprint)
        encoded(header)  # before anything is written
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        noted: dict[str, JsonValue] = {"kind": "collection", "created": created}
        noted["header"] = dict(header)
        for above in (group, f"{folder}/seg", f"{folder}/base"):
            self._files.put_new(f"{above}/zarr.json", [group_document()])
        self._files.put_new(f"{folder}/zarr.json", [group_document(noted)])
        collection = self.collection(group, name, fingerprint)
        if collection is None:
            raise StoreError(f"{self._files.named(folder)}: removed while it was created")
        return collection

    def collections(self, group: str | None = None) -> list[Collection]:
        """Return all collections, or those of one group, by name and fingerprint."""
        groups = [group] if group else [g for g in self._files.list("") if g != "zarr.json"]
        found = []
        for at in groups:
            for name, _, fingerprint in (child.partition("@") for child in self._files.list(at)):
                if fingerprint and (each := self.collection(at, name, fingerprint)):
                    found.append(each)
        return found

    def remove(self, collection: Collection) -> None:
        """Delete a collection; nobody may be writing to it."""
        folder = collection.identity.folder
        empty(self._files.within(folder))
        self._files.delete(f"{folder}/zarr.json")  # last: what is half deleted is listed still
        self._files.remove(folder)

    def size(self, collection: Collection) -> int:
        """Return the bytes the collection takes."""
        return self._files.size(collection.identity.folder)

    def _fingerprints(self) -> Iterator[tuple[str, str]]:
        """Yield the name and fingerprint of each feature, some twice."""
        for group in ("features", "frames"):
            for child in self._files.list(group):
                name, _, fingerprint = child.partition("@")
                if fingerprint and "zarr.json" in self._files.list(f"{group}/{child}"):
                    yield name, fingerprint

    def _meant(self, name: str, fingerprints: Sequence[str]) -> str:
        """Return the only fingerprint, or the one marked last."""
        if len(fingerprints) == 1:
            return fingerprints[0]
        both = [self.collection(g, name, f) for f in fingerprints for g in ("features", "frames")]
        marks = {each.marked(): each.fingerprint for each in both if each}
        if not any(marks):
            found = _listed(name, fingerprints)
            raise StoreError(f"{self.path}: {name!r} is there more than once; name one of {found}")
        return marks[max(marks)]


def _open(files: Files, create: bool) -> None:
    """Check the folder's own zarr.json; an empty or missing folder becomes a store."""
    where = files.named("")
    try:
        data = files.get("zarr.json")
    except FileNotFoundError:
        if names := files.list(""):
            found = f"a folder with {names[0]!r}"
            raise StoreError(f"{where}: not a mercore store: found {found}") from None
        if not create:
            raise StoreError(f"{where}: no store there; mer extract makes one") from None
        files.put_new("zarr.json", [group_document({"kind": "store", "format": FORMAT})])
        data = files.get("zarr.json")
    noted = _attributes(decoded(data, files.named("zarr.json")), where, "store")
    if noted["format"] > FORMAT:
        found = f"found format {noted['format']!r}, this version reads {FORMAT}"
        raise StoreError(f"{where}: written by a newer mercore: {found}; upgrade mercore")


def _attributes(document: Document, where: str, kind: str) -> Document:
    """Return what mercore noted in a group's zarr.json, if it is of that kind."""
    noted: Document = document.get("attributes", {}).get("mercore", {})
    if noted.get("kind") != kind:
        found = noted.get("kind", "other Zarr data")
        raise StoreError(f"{where}: not a mercore {kind}: found {found!r}")
    return noted


def _folder(group: str, name: str, fingerprint: str) -> str:
    """Return the key of a collection, whose names must be fit for one."""
    for what, text in (("group", group), ("name", name), ("fingerprint", fingerprint)):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text):
            raise StoreError(f"{what} {text!r}: expected letters, digits, '_', '.' and '-'")
    return f"{group}/{name}@{fingerprint}"


def _listed(name: str, fingerprints: Sequence[str]) -> str:
    return ", ".join(repr(f"{name}@{fingerprint}") for fingerprint in fingerprints)
