"""Which file content a sample's stored values were made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from mercore.errors import InputError
from mercore.manifest import Sample


class Sources:
    """Identifies the input files of samples; each file is read once in the life of the object.

    An identity holds, for each column of the manifest a value was derived from, the size, the
    modification time and a hash of the file (or a hash of the words themselves). A file whose
    size and time are unchanged is taken as unchanged; one that was only touched or copied is
    recognised by its hash.
    """

    def __init__(self) -> None:
        self._digests: dict[tuple[str, int, int], str] = {}

    def identity(self, sample: Sample, roots: Sequence[str]) -> str:
        """Return the identity of the sample's files; raises InputError when one is gone."""
        return " ".join(self._one(sample, root) for root in roots)

    def unchanged(self, identity: str, sample: Sample, roots: Sequence[str]) -> bool:
        """Return whether the sample's files are those of a stored identity."""
        if not identity:  # the file was gone when it was to be read
            return False
        parts = identity.split(" ")
        return len(parts) == len(roots) and all(
            self._same(part, sample, root) for part, root in zip(parts, roots, strict=True)
        )

    def _one(self, sample: Sample, root: str) -> str:
        path = sample.file(root)
        if path is None:
            return "words:" + _hash((sample.words(root) or "").encode())
        size, modified = _stat(path)
        return f"{size}:{modified}:{self._digest(path, size, modified)}"

    def _same(self, part: str, sample: Sample, root: str) -> bool:
        path = sample.file(root)
        if path is None or part.startswith("words:"):
            return path is None and part == self._one(sample, root)
        size, modified, digest = part.split(":")
        try:
            now = _stat(path)
        except InputError:
            return True  # a clip may be deleted once its features are extracted
        if now[0] != int(size):
            return False
        return now[1] == int(modified) or self._digest(path, *now) == digest

    def _digest(self, path: str, size: int, modified: int) -> str:
        key = (path, size, modified)
        if key not in self._digests:
            with open(path, "rb") as file:
                self._digests[key] = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        return self._digests[key]


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
