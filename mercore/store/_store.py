"""The store itself: groups of collections, each under a name and a fingerprint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from mercore.errors import DamagedError, StoreError, did_you_mean
from mercore.store._collection import Collection, Identity
from mercore.store._compact import empty
from mercore.store._disk import LocalFiles
from mercore.store._documents import Document, decoded, encoded, noted
from mercore.store._documents import group as group_document
from mercore.store._feature import Feature
from mercore.store._files import Files
from mercore.store._repair import Damage, check_documents, damage_of, examine, repaired
from mercore.store._s3 import S3Files
from mercore.watch import Silent, Watch

GROUPS = ("features", "frames", "streams", "trunks")
FORMAT = 1
"""Raise it when older versions cannot read the layout any more."""
_ROOT = group_document({"kind": "store", "format": FORMAT})


class Store:
    """All features and streams of an experiment, in one folder, or below one prefix of a bucket."""

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        endpoint: str | None = None,
        files: Files | None = None,
    ) -> None:
        """Open the store at a folder or ``s3://bucket/prefix``; what is none is a StoreError.

        `endpoint` is the URL of the S3 server, if it is not AWS and AWS_ENDPOINT_URL is not set.
        """
        self.path = path if "://" in str(path) else Path(path)
        self._files = files or _files_at(self.path, endpoint)
        _open(self._files, create)

    @classmethod
    def find(cls, path: str | Path, *, endpoint: str | None = None) -> Store | None:
        """Return the store at a place, None where nothing is yet; see `__init__`."""
        files = _files_at(path if "://" in str(path) else Path(path), endpoint)
        return cls(path, create=False, files=files) if files.list("") else None

    @classmethod
    def mend(cls, path: str | Path, *, endpoint: str | None = None) -> Damage | None:
        """Return what was wrong with the store's own zarr.json, which is written anew then."""
        files = _files_at(path if "://" in str(path) else Path(path), endpoint)
        names = set(files.list("")) - {"zarr.json"}
        if not names or names - set(GROUPS):  # nothing, or something else than a store
            return None
        found = check_documents(files, {"zarr.json": _ROOT}, dry_run=False)
        return found[0] if found else None

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
            if any(part.name == plain for part in self.collections("streams")):
                raise StoreError(
                    f"{self.path}: {plain!r} is a stream, not a feature; `mer show {plain}` lists "
                    "it, `store.collections('streams')` has it"
                )
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
        found = _attributes(document, self._files.named(key), "collection")
        try:
            created, header = datetime.fromisoformat(found["created"]), dict(found["header"])
        except (KeyError, TypeError, ValueError) as error:
            where = f"{self._files.named(key)}: damaged: no header, or no time"
            raise DamagedError(f"{where}; run `mer repair`") from error
        identity = Identity(group, name, fingerprint, header, created)
        return Collection(self._files.within(folder), identity)

    def create(
        self, group: str, name: str, fingerprint: str, header: Mapping[str, JsonValue]
    ) -> Collection:
        """Return the collection, made with this header unless it is there already."""
        folder = _folder(group, name, fingerprint)
        encoded(header)  # before anything is written
        found = self.collection(group, name, fingerprint)
        # A removal that was broken off may have left no more than what was found.
        if found and {"seg", "base"} <= set(self._files.list(folder)):
            return found
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        about: dict[str, JsonValue] = {"kind": "collection", "created": created}
        about["header"] = dict(header)
        for above in (group, f"{folder}/seg", f"{folder}/base"):
            self._files.put_new(f"{above}/zarr.json", [group_document()])
        self._files.put_new(f"{folder}/zarr.json", [group_document(about)])
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

    def folders(self) -> list[str]:
        """Return all collections as ``group/name@fingerprint``, also where a header is damaged."""
        below = [f"{group}/{child}" for group in GROUPS for child in self._files.list(group)]
        return [each for each in below if "@" in each and "zarr.json" in self._files.list(each)]

    def repair(
        self,
        folders: Mapping[str, Mapping[str, JsonValue] | None],
        *,
        dry_run: bool = False,
        watch: Watch | None = None,
    ) -> list[Damage]:
        """Return what is damaged in collections, ``group/name@fingerprint``, and drop just that.

        Every byte is read. `folders` gives the header of each, where it is known: one that is
        damaged is written anew, or stays. With `dry_run` nothing is changed.
        """
        watch = watch or Silent()
        groups = sorted({folder.partition("/")[0] for folder in folders})
        documents = {f"{name}/zarr.json": group_document() for name in groups}
        damage = check_documents(self._files, documents, dry_run=dry_run)
        for folder, header in folders.items():
            files, bar = self._files.within(folder), f"check {folder}"
            start, advance = partial(watch.start, bar), partial(watch.advance, bar, failed=0)
            found = (examine if dry_run else repaired)(files, start, advance)
            damage += damage_of(files, found, folder)
            if found.headless and header and not dry_run:
                self._files.delete(f"{folder}/zarr.json")
                group, name, fingerprint = re.split("[/@]", folder)
                self.create(group, name, fingerprint, header)
        return damage

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


def _files_at(path: str | Path, endpoint: str | None) -> Files:
    if isinstance(path, str):
        return S3Files.at(path, endpoint)
    if path.parts[:1] == ("s3:",):
        raise StoreError(f"store {str(path)!r}: expected s3://; give it as text, not as a Path")
    return LocalFiles(path)


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
        files.put_new("zarr.json", [_ROOT])
        data = files.get("zarr.json")
    version = _attributes(decoded(data, files.named("zarr.json")), where, "store").get("format")
    if not isinstance(version, int):
        found = f"found format {version!r}, expected {FORMAT}"
        raise DamagedError(f"{where}: damaged zarr.json: {found}")
    if version > FORMAT:
        found = f"found format {version!r}, this version reads {FORMAT}"
        raise StoreError(f"{where}: written by a newer mercore: {found}; upgrade mercore")
    if create:
        files.probe("zarr.json", [data])


def _attributes(document: Document, where: str, kind: str) -> Document:
    """Return what mercore noted in a group's zarr.json, if it is of that kind."""
    ours = noted(document)
    if ours.get("kind") != kind:
        found = ours.get("kind", "other Zarr data")
        raise StoreError(f"{where}: not a mercore {kind}: found {found!r}")
    return ours


def _folder(group: str, name: str, fingerprint: str) -> str:
    """Return the key of a collection, whose names must be fit for one."""
    for what, text in (("group", group), ("name", name), ("fingerprint", fingerprint)):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text):
            raise StoreError(f"{what} {text!r}: expected letters, digits, '_', '.' and '-'")
    return f"{group}/{name}@{fingerprint}"


def _listed(name: str, fingerprints: Sequence[str]) -> str:
    return ", ".join(repr(f"{name}@{fingerprint}") for fingerprint in fingerprints)
