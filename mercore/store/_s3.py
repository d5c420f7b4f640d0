"""Files in an S3 bucket, through obstore: a put appears whole, and is durable once answered."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from mercore.errors import DamagedError, StoreError
from mercore.store._bucket import Bucket, told
from mercore.store._files import Bytes, Content, Files, In, Out, Span

if TYPE_CHECKING:
    from obstore import ObjectMeta

GAP_BYTES = 1024 * 1024
"""Ranges nearer than this are read in one request: as much takes less time than another answer."""
PART_BYTES = 16 * 1024 * 1024
"""Larger files are sent in parts of this size, so that a slow line does not time out."""
REQUESTS = 16
"""How many requests are made side by side."""


@dataclass(frozen=True)
class S3Files(Files):
    """Objects below a prefix of a bucket; copies in other processes connect anew."""

    bucket: Bucket
    prefix: str = ""
    """Without a slash at either end."""

    @classmethod
    def at(cls, url: str, endpoint: str | None = None) -> S3Files:
        """Return the files at ``s3://bucket/prefix``."""
        name, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.rstrip("/")
        odd = {"", ".", ".."}.intersection(prefix.split("/")) if prefix else ()
        if not url.startswith("s3://") or not name or odd:
            raise StoreError(f"store {url!r}: expected s3://bucket or s3://bucket/prefix")
        if find_spec("obstore") is None:
            cure = 'install it: pip install "mercore[s3]"'
            raise StoreError(f"store {url!r}: needs the package obstore; {cure}")
        return cls(Bucket(name, endpoint), prefix)

    def within(self, folder: str) -> S3Files:
        """Return the files below `folder`."""
        return replace(self, prefix=self._path(folder))

    def named(self, key: str) -> str:
        """Return the URL of `key`."""
        return f"s3://{self.bucket.name}/{self._path(key)}".rstrip("/")

    def put(self, contents: Mapping[str, Content]) -> None:
        """Write files of one folder in order; each appears whole, all are durable on return."""
        for key, content in contents.items():
            pieces = _pieces(content)
            large = sum(piece.nbytes for piece in pieces) > PART_BYTES
            with told(self.named(key), "write"):
                self.bucket.store.put(
                    self._path(key),
                    pieces,
                    use_multipart=large,
                    chunk_size=PART_BYTES,
                    max_concurrency=4,
                )

    def put_new(self, key: str, content: Content) -> bool:
        """Return whether the file was written: False where there was one, which is left alone."""
        with suppress(FileNotFoundError):
            self.get(key)
            return False
        if self._create(key, content):
            return True
        # A request whose answer was lost is sent again, and then refused because of itself.
        with suppress(FileNotFoundError):
            return self.get(key) == b"".join(bytes(piece) for piece in content)
        return False

    def probe(self, key: str, content: Content) -> None:
        """Check that the server refuses `content` for `key`, which holds it already."""
        from obstore.exceptions import PermissionDeniedError

        try:
            ignored = self._create(key, content)
        except StoreError as error:
            if isinstance(error.__cause__, PermissionDeniedError):
                return  # who may not write cannot write over anything
            raise
        if ignored:
            where = f"{self.named(key)}: {self.bucket.server} wrote a file again that was there"
            expected = "expected status 412, as the request said If-None-Match: *"
            cure = "use a server that heeds it (AWS and MinIO do), or a store on a disk"
            raise StoreError(f"{where}; {expected}; {cure}")

    def get(self, key: str) -> bytes:
        """Return what the file holds."""
        with told(self.named(key), "read", missing=True):
            return self.bucket.store.get(self._path(key)).bytes().to_bytes()

    def read_into(self, key: str, spans: Sequence[Span]) -> None:
        """Fill each buffer from its offset; a file that ends before that is a StoreError."""
        runs = _runs(spans)
        starts, ends = [run.start for run in runs], [run.end for run in runs]
        with told(self.named(key), "read", missing=True):
            # obstore breaks off the process where it joins ranges and the file ends too early.
            path = self._path(key)
            found = self.bucket.store.get_ranges(path, starts=starts, ends=ends, coalesce=0)
        for run, data in zip(runs, found, strict=True):
            run.fill(np.frombuffer(memoryview(data), np.uint8), self.named(key))

    def list(self, folder: str) -> list[str]:
        """Return the sorted names in a folder, none for a missing one."""
        path = self._path(folder)
        with told(self.named(folder), "list"):
            found = self.bucket.store.list_with_delimiter(path or None)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        # Consoles make an empty object for a folder, which is listed in that very folder.
        names = [each.removeprefix(path).lstrip("/") for each in paths]
        return sorted(name for name in names if name and not name.startswith("."))

    def age(self, folder: str) -> float:
        """Return the seconds since a file was added to the folder."""
        objects = self._below(folder)
        if not objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.named(folder))
        newest = max(each["last_modified"] for each in objects)
        return (datetime.now(UTC) - newest).total_seconds()

    def size(self, folder: str) -> int:
        """Return the bytes of all files below the folder."""
        return sum(each["size"] for each in self._below(folder))

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        self._delete(self.named(key), [self._path(key)])

    def remove(self, folder: str) -> None:
        """Delete a folder and all below it, as far as no one else adds to it or deletes it too."""
        if objects := self._below(folder):
            self._delete(self.named(folder), [each["path"] for each in objects])

    def each(self, action: Callable[[In], Out], items: Iterable[In]) -> Sequence[Out]:
        """Return what `action` returns for each item, in order; they wait side by side."""
        given = list(items)
        if len(given) < 2:
            return [action(item) for item in given]
        with ThreadPoolExecutor(min(REQUESTS, len(given))) as pool:
            return list(pool.map(action, given))

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self.prefix, key) if part)

    def _create(self, key: str, content: Content) -> bool:
        """Return whether the server took the file, asked to refuse one that is there."""
        from obstore.exceptions import AlreadyExistsError

        with told(self.named(key), "write"), suppress(AlreadyExistsError):
            self.bucket.store.put(self._path(key), _pieces(content), mode="create")
            return True
        return False

    def _below(self, folder: str) -> Sequence[ObjectMeta]:
        with told(self.named(folder), "list"):
            return self.bucket.store.list(self._path(folder) or None).collect()

    def _delete(self, where: str, paths: Sequence[str]) -> None:
        with told(where, "delete"):
            self.bucket.store.delete(paths)


@dataclass(frozen=True)
class Run:
    """What one request reads: spans near to each other."""

    spans: Sequence[Span]
    """By offset."""

    @property
    def start(self) -> int:
        """Offset in the file."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return max(offset + buffer.nbytes for offset, buffer in self.spans)

    def fill(self, data: Bytes, where: str) -> None:
        """Copy to each span what was read; `where` is the file."""
        found = self.start + len(data)
        if found < self.end:
            raise DamagedError(f"{where}: ends after {found} bytes, expected {self.end}")
        for offset, buffer in self.spans:
            buffer[:] = data[offset - self.start :][: buffer.nbytes]


def _pieces(content: Content) -> list[memoryview]:
    return [memoryview(piece if isinstance(piece, bytes) else piece.data) for piece in content]


def _runs(spans: Sequence[Span]) -> list[Run]:
    """Return the requests that read all spans."""
    runs: list[list[Span]] = []
    end = -GAP_BYTES
    for offset, buffer in sorted(spans, key=lambda span: span[0]):
        if not buffer.nbytes:
            continue
        if not runs or offset - end > GAP_BYTES:
            runs.append([])
        runs[-1].append((offset, buffer))
        end = max(end, offset + buffer.nbytes)
    return [Run(run) for run in runs]
