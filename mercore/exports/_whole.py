"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mercore.errors import RunError, few

ABOUT = "about.json"
"""The file by which a folder of arrays is known."""


@contextmanager
def whole(to: Path, *, overwrite: bool, folder: bool) -> Iterator[Path]:
    """Give another name beside `to`; what is there takes the place of `to` at the end.

    An error leaves `to` as it was. Raises RunError where something is there that must not be, and
    where it cannot be written.
    """
    check_free(to, overwrite=overwrite, folder=folder)
    new = to.with_name(f".{to.name}.{os.getpid()}.new")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            new.mkdir()
        yield new
        _swap(new, to)
    except OSError as error:
        cure = "free some space, check the permissions, or give another place"
        raise RunError(f"cannot write {to}: {error.strerror or error}; {cure}") from error
    finally:
        _remove(new)


def check_free(to: Path, *, overwrite: bool, folder: bool) -> None:
    """Raise RunError unless `to` is free, or may be replaced: an earlier export, nothing else."""
    if not to.exists():
        return
    if folder != to.is_dir():
        found, expected = ("a folder", "a file") if to.is_dir() else ("a file", "a folder")
        raise RunError(f"{to}: is {found}, and {expected} is to be written; give another place")
    if folder:
        _check_ours(to)
    if not overwrite and (not folder or any(to.iterdir())):
        raise RunError(f"{to}: is there already; give another place, or overwrite it (--overwrite)")


def _check_ours(folder: Path) -> None:
    """Raise RunError where a folder holds what no export has written, which would be lost."""
    names = [path.name for path in folder.iterdir()]
    strange = sorted(n for n in names if not n.endswith(".npy") and n not in (ABOUT, "ids.csv"))
    if names and (strange or ABOUT not in names):
        found = few(strange or sorted(names))
        raise RunError(f"{folder}: holds what is no export ({found}); give another folder")


def _swap(new: Path, to: Path) -> None:
    if not to.is_dir():
        new.replace(to)
        return
    old = to.with_name(f".{to.name}.{os.getpid()}.old")
    to.rename(old)  # a folder with files in it cannot be replaced in one step
    new.rename(to)
    _remove(old)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
