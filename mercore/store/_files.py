"""Files by key: the layer the store reads and writes through.

Keys are paths with ``/`` below the root. Files are written whole and never replaced, so an object
store can stand in for a disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Content: TypeAlias = Sequence[bytes | Bytes]
"""What one file holds, in pieces."""
Span: TypeAlias = tuple[int, Bytes]
"""An offset in a file, in bytes, and the buffer to fill from there."""
In = TypeVar("In")
Out = TypeVar("Out")


def crc32c(*pieces: bytes | Bytes) -> int:
    """Return the CRC-32C of the pieces, as if they were one."""
    checksum = 0
    for piece in pieces:
        checksum = google_crc32c.extend(checksum, piece)
    return checksum


class Files(ABC):
    """Reads and writes whole files; a missing one is a FileNotFoundError, all else a StoreError."""

    @abstractmethod
    def within(self, folder: str) -> Files:
        """Return the files below `folder`."""

    @abstractmethod
    def named(self, key: str) -> str:
        """Return how messages call `key`."""

    @abstractmethod
    def put(self, contents: Mapping[str, Content]) -> None:
        """Write files of one folder in order; each appears whole, all are durable on return."""

    @abstractmethod
    def put_new(self, key: str, content: Content) -> bool:
        """Return whether the file was written: False where there was one, which is left alone."""

    def probe(self, key: str, content: Content) -> None:  # noqa: B027 - most have no need of it
        """Check that `put_new` leaves a file alone: `key`, which is there and holds `content`."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return what the file holds."""

    @abstractmethod
    def read_into(self, key: str, spans: Sequence[Span]) -> None:
        """Fill each buffer from its offset; a file that ends before that is a StoreError."""

    @abstractmethod
    def list(self, folder: str) -> list[str]:
        """Return the sorted names in a folder, none for a missing one."""

    @abstractmethod
    def age(self, folder: str) -> float:
        """Return the seconds since a file was added to or taken from the folder."""

    @abstractmethod
    def size(self, folder: str) -> int:
        """Return the bytes of all files below the folder."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Delete a folder and all below it, as far as no one else adds to it or deletes it too."""

    def each(self, action: Callable[[In], Out], items: Iterable[In]) -> Sequence[Out]:
        """Return what `action` returns for each item, in order.

        Actions wait side by side where an answer takes long; here they come one after another.
        """
        return [action(item) for item in items]
