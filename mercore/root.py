"""The folder that media must lie below, for manifests of others."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from mercore.errors import ManifestError


class Root:
    """Tells which files lie below a folder once every link is followed.

    A link that is changed after a file was looked at is not noticed.
    """

    def __init__(self, folder: str | Path) -> None:
        if not os.path.isdir(folder):
            raise ManifestError(f"root {str(folder)!r}: no such folder")
        self._folder = os.path.realpath(folder)
        self._real_folder = cache(os.path.realpath)  # many clips lie in one folder

    def mistake(self, path: str | Path) -> str:
        """Return where a file lies that is not below the folder, in words, else ``""``."""
        real = os.path.join(self._real_folder(os.path.dirname(path)), os.path.basename(path))
        if os.path.islink(real):
            real = os.path.realpath(real)
        if real.startswith(os.path.join(self._folder, "")):
            return ""
        return f"lies outside of the root {self._folder!r}, at {real!r}"
