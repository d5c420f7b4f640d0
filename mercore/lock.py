"""One training at a time in a run folder, also between machines that share the disk."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mercore.errors import RunError
from mercore.folder import CURE


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from training in the folder; raises RunError where one does.

    The lock is the kernel's: it goes with its process, however that ends, and NFS knows it.
    """
    path = folder / ".lock"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            _take(file, folder)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}; {CURE}") from error
        yield


def _take(file: IO[str], folder: Path) -> None:
    """Lock the file, and write into it whose it is."""
    if not _taken(file):
        file.seek(0)
        raise RunError(
            f"{folder}: {file.read() or 'another process'} trains there; wait for its end, or give "
            "another --out"
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()


def _taken(file: IO[str]) -> bool:
    """Return whether the lock is ours; a disk that knows no locks lets everybody."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
