"""Installed packages: their versions, and those that only some options need."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mercore.errors import RunError

RAY = """run `pip install "mercore[ray]"`"""
"""How to get what a Ray cluster needs."""
_LIBRARIES = ("numpy", "scikit-learn", "torch", "zarr")


def needed(package: str, what: str, cure: str = "") -> Any:
    """Return the module `package`, which `what` cannot do without.

    Raises RunError where it is not installed, with `cure` for a next step; ``pip install`` of the
    package if there is none.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        step = cure or f"run `pip install {package}`"
        raise RunError(f"{what} needs {package}, which is not installed; {step}") from error


def versions(origins: Iterable[str]) -> dict[str, str]:
    """Return the versions of what computes results: mercore, the plugins, and their libraries.

    `origins` are distributions with their versions, as components come from.
    """
    plugins = dict(origin.rsplit(" ", 1) for origin in sorted(set(origins)))
    libraries = {name: found for name in _LIBRARIES if (found := installed(name))}
    return {"mercore": version("mercore")} | plugins | libraries


def installed(distribution: str) -> str | None:
    """Return the version of a distribution that is installed, else None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
