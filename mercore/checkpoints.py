"""Where weights lie, and what identifies them.

A checkpoint is a path (a file or a folder) or a hub id ``owner/name``, optionally pinned as
``owner/name@revision``. Whatever exists on disk is a path; a path never touches the network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from mercore.errors import CheckpointError

_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
_MIB = 2**20


def identity(checkpoint: str | Path) -> str:
    """Return a name of the weights that does not depend on where they lie.

    For a path ``sha256:...``, over the relative name, the size, and the first and last MiB of each
    file; hidden files do not count. This reads at most 2 MiB a file, so it is cheap for shards of
    many GiB, and blind to a change in their middle that keeps the size. For a hub id
    ``owner/name@commit`` once it is in the local cache, else the id as given: pin a revision to
    have one identity before and after the download. Raises ``CheckpointError`` for a path that
    does not exist.
    """
    hub = _hub_id(checkpoint)
    if hub is None:
        return f"sha256:{_digest(_existing(checkpoint))}"
    cached = _snapshot(*hub, patterns=None, local=True)
    return f"{hub[0]}@{cached.name}" if cached else str(checkpoint)


def locate(checkpoint: str | Path, *, wanted: Sequence[str], useful: Sequence[str] = ()) -> Path:
    """Return the folder that holds the files `wanted`, fetched from the hub if it has to be.

    `wanted` and `useful` are file name patterns such as ``"*.safetensors"``; each of `wanted` must
    match a file, and of a hub id nothing but the two is fetched, once. Raises ``CheckpointError``
    naming the files that are missing.
    """
    hub = _hub_id(checkpoint)
    folder = _fetched(hub, wanted, useful) if hub else _existing(checkpoint)
    missing = _missing(folder, wanted)
    if missing:
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} has no file {' and no file '.join(map(repr, missing))}"
            f"; expected a folder with {', '.join(wanted)}"
        )
    return folder


def _hub_id(checkpoint: str | Path) -> tuple[str, str | None] | None:
    """Return the repository and revision of a hub id, or None for a path."""
    found = _HUB_ID.fullmatch(checkpoint) if isinstance(checkpoint, str) else None
    if found is None or Path(found.string).exists():
        return None
    return found["repo"], found["revision"]


def _existing(checkpoint: str | Path) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"there is no checkpoint at {str(checkpoint)!r}; expected an existing path or a hub "
            "id such as 'owner/name'"
        )
    return path


def _digest(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix()
        # A hub client leaves bookkeeping such as .cache/ in the folders that it fills.
        if file.is_file() and not any(part.startswith(".") for part in Path(name).parts):
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            digest.update(_ends(file))
    return digest.hexdigest()


def _ends(file: Path) -> bytes:
    """Return the first and the last MiB of the file, or all of a small one."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= 2 * _MIB:
            return stream.read()
        first = stream.read(_MIB)
        stream.seek(size - _MIB)
        return first + stream.read()


def _fetched(hub: tuple[str, str | None], wanted: Sequence[str], useful: Sequence[str]) -> Path:
    """Return the cached snapshot if it is complete, else fetch it."""
    cached = _snapshot(*hub, patterns=None, local=True)
    if cached and not _missing(cached, wanted):
        return cached
    try:
        folder = _snapshot(*hub, patterns=[*wanted, *useful], local=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot fetch checkpoint {hub[0]!r}: {error}; check the id and the network, or give "
            "the path of a folder that holds it"
        ) from error
    if folder is None:
        raise CheckpointError(
            f"checkpoint {hub[0]!r} is not a path, and fetching it needs huggingface_hub; give the "
            "path of a folder, or run `pip install huggingface_hub`"
        )
    return folder


def _snapshot(
    repo: str, revision: str | None, *, patterns: Sequence[str] | None, local: bool
) -> Path | None:
    """Return the folder of the snapshot; None where it is not cached, or nothing could look."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return None
    allow = list(patterns) if patterns else None
    try:
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=allow, local_files_only=local)
        )
    except LocalEntryNotFoundError:
        if local:
            return None
        raise
    except HFValidationError as error:
        raise CheckpointError(f"checkpoint {repo!r} is neither a path nor a hub id") from error


def _missing(folder: Path, wanted: Sequence[str]) -> list[str]:
    return [pattern for pattern in wanted if not any(folder.glob(pattern))]
