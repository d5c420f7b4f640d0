"""Files on a disk: each is written whole, under a temporary name first, and made durable."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mercore.errors import DamagedError, StoreError
from mercore.store._files import Content, Files, Span


@dataclass(frozen=True)
class LocalFiles(Files):
    """Files on a disk: a temporary name, fsync, rename, fsync of the folder."""

    root: Path

    def within(self, folder: str) -> LocalFiles:
        """Return the files below `folder`."""
        return replace(self, root=self.root / folder)

    def named(self, key: str) -> str:
        """Return the path of `key`."""
        return str(self._path(key))

    def put(self, contents: Mapping[str, Content]) -> None:
        """Write files of one folder in order; each appears whole, all are durable on return."""
        folder = self._path(next(iter(contents))).parent
        staged = {}
        with _told(folder, "write"):
            try:
                for key, content in contents.items():
                    staged[key] = self._stage(self._path(key), content)
                _sync_all(list(staged.values()))
                for key, temporary in staged.items():
                    self._publish(temporary, self._path(key))
            except OSError:
                _discard(staged.values())
                raise
            _sync(folder)

    def put_new(self, key: str, content: Content) -> bool:
        """Return whether the file was written: False where there was one, which is left alone."""
        path = self._path(key)
        if path.exists():
            return False
        with _told(path, "write"):
            temporary = self._stage(path, content)
            try:
                _sync(temporary)
                self._publish_new(temporary, path)
            except FileExistsError:
                return False
            finally:
                _discard([temporary])
            _sync(path.parent)
        return True

    def get(self, key: str) -> bytes:
        """Return what the file holds."""
        path = self._path(key)
        with _told(path, "read", missing=True):
            return path.read_bytes()

    def read_into(self, key: str, spans: Sequence[Span]) -> None:
        """Fill each buffer from its offset; a file that ends before that is a StoreError."""
        path = self._path(key)
        with _told(path, "read", missing=True), open(path, "rb", buffering=0) as file:
            for offset, buffer in spans:
                file.seek(offset)
                filled = 0
                # One read ends at 2 GiB, and may end anywhere on a network disk.
                while filled < buffer.nbytes:
                    count = file.readinto(buffer[filled:].data)
                    if not count:
                        found = offset + filled
                        wanted = offset + buffer.nbytes
                        raise DamagedError(f"{path}: ends after {found} bytes, expected {wanted}")
                    filled += count

    def list(self, folder: str) -> list[str]:
        """Return the sorted names in a folder, none for a missing one."""
        path = self._path(folder)
        with _told(path, "read"), suppress(FileNotFoundError):
            # Names with a dot are files that are being written.
            return sorted(name for name in os.listdir(path) if not name.startswith("."))
        return []

    def age(self, folder: str) -> float:
        """Return the seconds since a file was added to or taken from the folder."""
        with _told(self._path(folder), "read", missing=True):
            return time.time() - self._path(folder).stat().st_mtime

    def size(self, folder: str) -> int:
        """Return the bytes of all files below the folder."""
        total = 0
        for at, _, names in os.walk(self._path(folder)):
            for name in names:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    total += os.stat(os.path.join(at, name)).st_size
        return total

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        with _told(self._path(key), "delete"):
            self._path(key).unlink(missing_ok=True)

    def remove(self, folder: str) -> None:
        """Delete a folder and all below it, as far as no one else adds to it or deletes it too."""
        path = self._path(folder)
        with _told(path, "delete"), suppress(FileNotFoundError):
            try:
                shutil.rmtree(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise

    def _path(self, key: str) -> Path:
        return self.root / key

    def _stage(self, path: Path, content: Content) -> Path:
        """Return the temporary file beside `path` that holds `content`, not yet durably."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with open(temporary, "xb") as file:
                for piece in content:
                    file.write(piece if isinstance(piece, bytes) else piece.data)
        except OSError:
            _discard([temporary])
            raise
        return temporary

    def _publish(self, temporary: Path, path: Path) -> None:
        temporary.rename(path)

    def _publish_new(self, temporary: Path, path: Path) -> None:
        os.link(temporary, path)  # a rename would replace what is there


def _sync_all(paths: Sequence[Path]) -> None:
    """Make files durable side by side: the disk commits its journal once for all of them."""
    with ThreadPoolExecutor(len(paths)) as pool:
        for done in [pool.submit(_sync, path) for path in paths]:
            done.result()


def _sync(path: Path) -> None:
    """Make a file durable, or the names in a folder; ext4, XFS and Btrfs add the folder's own."""
    if os.name == "nt" and path.is_dir():  # which cannot be opened there
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


@contextmanager
def _told(path: Path, action: str, *, missing: bool = False) -> Iterator[None]:
    """Turn an OSError into a StoreError naming the path; `missing` lets FileNotFoundError pass."""
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        kind = DamagedError if error.errno == errno.EIO and action == "read" else StoreError
        raise kind(f"{path}: cannot {action}: {error.strerror}{_cure(error)}") from error


def _cure(error: OSError) -> str:
    """Return what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space, or give another --store"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "; check the permissions, or give another --store"
    if error.errno == errno.EIO:
        return "; look after the disk, then run `mer repair`"
    if error.errno == errno.ENOTDIR:
        return "; expected a folder"
    return ""
