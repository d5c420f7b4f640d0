"""Where weights lie, and what identifies them.

A checkpoint is a path (a file or a folder) or a hub id: ``owner/name`` on Hugging Face,
``modelscope:owner/name`` on ModelScope, optionally pinned as ``owner/name@revision``. Whatever
exists on disk is a path; a path never touches the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mercore.errors import CheckpointError
from mercore.hubs import HuggingFace, ModelScope, Repository

_HUB_ID = re.compile(
    r"(?P<modelscope>modelscope:)?(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(@(?P<revision>(?!.*\.\.)\w[\w./-]*))?",
    re.ASCII,
)
_MIB = 2**20

Wanted = Sequence[str | tuple[str, ...]]
"""File name patterns, each of which a file must match; a tuple lists alternatives, best first."""


def identity(checkpoint: str | Path) -> str:
    """Return a name of the weights that does not depend on where they lie.

    For a path ``sha256:...``, over the relative name, the size, and the first and last MiB of each
    file; hidden files do not count. This reads at most 2 MiB a file, so it is cheap for shards of
    many GiB, and blind to a change in their middle that keeps the size.

    For a hub id ``owner/name@commit``: the commit of the copy in the local cache, else the one that
    the hub has now, which ``locate`` then fetches. So it is the same before and after a download.
    If the hub cannot be asked, the id as given; a full commit as revision needs no asking. See
    ``mercore.hubs.ModelScope`` for what a commit is there.

    Raises ``CheckpointError`` for a path that does not exist.
    """
    repository = repository_of(checkpoint)
    if repository is None:
        return f"sha256:{_digest(_existing(checkpoint))}"
    commit = repository.commit()
    return f"{repository.prefix}{repository.name}@{commit}" if commit else str(checkpoint)


def locate(checkpoint: str | Path, *, wanted: Wanted, useful: Sequence[str] = ()) -> Path:
    """Return the folder that holds the files `wanted`, fetched from the hub if it has to be.

    `wanted` and `useful` are file name patterns such as ``"*.safetensors"``, where ``*`` stays
    within a folder. Each item of `wanted` must match a file; an item that is a tuple lists
    alternatives, the most preferred first. From a hub come the first alternative that the
    repository has and what is `useful`, nothing else, and once.

    A `checkpoint` that is a file is returned as it is. Raises ``CheckpointError`` that says which
    files are wanted, which are missing, and how to get them.
    """
    repository = repository_of(checkpoint)
    if repository is not None:
        return _fetched(repository, wanted, useful)
    path = _existing(checkpoint, wanted)
    missing = [] if path.is_file() else _missing(path, wanted)
    if missing:
        raise CheckpointError(
            f"{str(path)!r} has {_lacking(missing)}; expected a folder with {_listed(wanted)}"
        )
    return path


def repository_of(checkpoint: str | Path) -> Repository | None:
    """Return the repository that a hub id names, or None for a path."""
    found = _HUB_ID.fullmatch(checkpoint) if isinstance(checkpoint, str) else None
    if found is None or os.path.exists(found.string):
        return None
    return (ModelScope if found["modelscope"] else HuggingFace)(found["repo"], found["revision"])


def _existing(checkpoint: str | Path, wanted: Wanted = ()) -> Path:
    # Those of os.path do not raise for a name that is too long, or a user that is none.
    path = Path(os.path.expanduser(checkpoint))
    if not os.path.exists(path):
        files = f"a file or folder with {_listed(wanted)}" if wanted else "an existing path"
        raise CheckpointError(
            f"there is no checkpoint at {str(checkpoint)!r}; expected {files}, or a hub id such as "
            "'owner/name' or 'modelscope:owner/name'"
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


def _fetched(repository: Repository, wanted: Wanted, useful: Sequence[str]) -> Path:
    """Return the local copy of the repository; what it lacks of the files is fetched first."""
    try:
        commit = repository.commit()
        folder, files = repository.snapshot(commit), repository.noted(commit)
        if files is None:
            if folder.is_dir() and not _missing(folder, wanted):
                return folder
            commit, files = repository.ask(commit)
            folder = repository.snapshot(commit)
        chosen = _chosen(repository, files, wanted, useful)
        if not all((folder / name).is_file() for name in chosen):
            if commit:
                repository.note(commit, files)
            repository.fetch(commit, chosen)
            # A client without a network may call what it has a success.
            lacking = [name for name in chosen if not (folder / name).is_file()]
            if lacking:
                raise OSError(f"{', '.join(lacking)} did not arrive in {folder}")
    except CheckpointError:
        raise
    except Exception as error:  # each client raises the errors of the HTTP library that it uses
        raise _unreachable(repository, wanted, error) from error
    return folder


def _chosen(
    repository: Repository, files: Sequence[str], wanted: Wanted, useful: Sequence[str]
) -> list[str]:
    """Return which of the repository's `files` to fetch."""
    chosen: set[str] = set()
    missing = []
    for item in wanted:
        matches = [found for pattern in _patterns(item) if (found := _matching(files, pattern))]
        chosen.update(*matches[:1])
        if not matches:
            missing.append(item)
    if missing:
        raise CheckpointError(
            f"{repository.name!r} on {repository.hub}, revision "
            f"{repository.revision or repository.branch!r}, has {_lacking(missing)}; expected "
            f"{_listed(wanted)}; found {', '.join(sorted(files)[:20]) or 'no file'}; give another "
            "repository or revision"
        )
    return sorted(chosen.union(*(_matching(files, pattern) for pattern in useful)))


def _unreachable(repository: Repository, wanted: Wanted, error: Exception) -> CheckpointError:
    told = f"{repository.prefix}{repository.name}"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        reason = f"its client is not installed; run `pip install {repository.package}`"
    return CheckpointError(
        f"{told!r} is no path, and cannot be fetched from {repository.hub}: {reason.rstrip('.')}; "
        f"wanted are {_listed(wanted)}; where there is a network, run `{repository.command()}`, "
        "then give that folder as checkpoint"
    )


def _patterns(item: str | tuple[str, ...]) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item


def _matching(files: Sequence[str], pattern: str) -> list[str]:
    """Return the `files` that ``Path.glob`` would find: ``*`` does not match a slash."""
    globs = pattern.split("/")
    return [
        name
        for name in files
        if len(parts := name.split("/")) == len(globs) and all(map(fnmatchcase, parts, globs))
    ]


def _missing(folder: Path, wanted: Wanted) -> list[str | tuple[str, ...]]:
    return [
        item for item in wanted if not any(any(folder.glob(pattern)) for pattern in _patterns(item))
    ]


def _lacking(items: Wanted) -> str:
    return " and ".join(f"no file {_listed([item])}" for item in items)


def _listed(items: Wanted) -> str:
    return ", ".join(" or ".join(map(repr, _patterns(item))) for item in items)
