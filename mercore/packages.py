"""Packages that are needed for some options alone, and so need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

from mercore.errors import RunError


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
