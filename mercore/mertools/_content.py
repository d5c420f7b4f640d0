"""What the files of MERTools' feature folders hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mercore.errors import InputError, RunError, listed
from mercore.media import FloatArray
from mercore.mertools._folders import POOLED, SEQUENCES, Folder, Source, each
from mercore.watch import Watch

_NAMED = 5  # files that an error names


@dataclass(frozen=True)
class Content:
    """What the files of a source hold."""

    width: int
    digest: str
    """16 hexadecimal digits, of the samples and their values; no matter where the files lie."""
    seen: Mapping[Path, Mapping[str, bytes | InputError]]
    """Folder to sample to a hash of its values, or to the reason why there are none."""
    values: Mapping[Path, Mapping[str, FloatArray]]
    """Folder to sample to its values, where they were kept; the others are read again."""

    @property
    def size(self) -> int:
        """The bytes of the values."""
        return sum(sum(v.nbytes for v in folder.values()) for folder in self.values.values())


def inspect(source: Source, threads: int, watch: Watch, keep: int) -> Content:
    """Return what the files hold, and the values of the first ones, up to `keep` bytes.

    Raises RunError naming files of a wrong rank, or of another width than most.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    seen: dict[Path, dict[str, bytes | InputError]] = {}
    values: dict[Path, dict[str, FloatArray]] = {}
    watch.start(f"read {source.name}", sum(len(folder.names) for folder in source.folders))
    for folder in source.folders:
        here = seen[folder.path] = {}
        kept = values[folder.path] = {}
        for name, found in each(partial(_seen, folder), sorted(folder.names), threads):
            watch.advance(f"read {source.name}", 1, int(isinstance(found, InputError)))
            if isinstance(found, InputError):
                here[name] = found
                continue
            shapes[f"{folder.path}/{name}.npy"], here[name], matrix = found
            if matrix.nbytes <= keep:
                kept[name] = matrix
                keep -= matrix.nbytes
    return Content(_width(source, shapes), _whole(source, seen), seen, values)


def digest(values: FloatArray) -> bytes:
    """Return a hash of the values and their shape."""
    found = hashlib.blake2b(str(values.shape).encode(), digest_size=16)
    found.update(values.data)
    return found.digest()


def _seen(folder: Folder, name: str) -> tuple[tuple[int, ...], bytes, FloatArray]:
    """Return shape, hash and values of a file; ``(dim,)`` where the array is as its folder says."""
    values = folder.read(name)
    fits = values.ndim == 2 and (folder.sequences or len(values) == 1)
    return values.shape[-1:] if fits else values.shape, digest(values), values


def _width(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the width of nearly all; raises RunError naming the files of another shape."""
    counts = Counter(shape for shape in shapes.values() if len(shape) == 1)
    usual = counts.most_common(1)[0][0] if counts else ()
    odd = [f"{path}: {shape}" for path, shape in shapes.items() if shape != usual]
    if not odd and usual:
        return usual[0]
    if not shapes:
        raise RunError(f"{source.source}: no file of it can be used")
    more = [f"and {len(odd) - _NAMED} more"] if len(odd) > _NAMED else []
    expected = f"expected {usual} a {POOLED} file, (frames, dim) a {SEQUENCES} file"
    raise RunError(
        f"{source.source}: {len(odd)} of {len(shapes)} files are of another shape, {expected}:"
        + listed([*odd[:_NAMED], *more])
    )


def _whole(source: Source, seen: Mapping[Path, Mapping[str, bytes | InputError]]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for folder in source.folders:
        for name, part in seen[folder.path].items():
            if not isinstance(part, InputError):
                found.update(f"{folder.sequences} {name}\0".encode() + part)
    return found.hexdigest()
