"""What a plugin imports when it is found, seen in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from mercore.components import Component
from mercore.imports import HEAVY
from mercore.plugins import GROUP, Plugins


def loaded_from(component: type[Component]) -> str:
    """Return what mercore loads to find the component: its entry point, else its module."""
    for provided in Plugins():
        if provided.component is component:
            (entry_point,) = entry_points(group=GROUP, name=provided.plugin)
            return entry_point.value
    return component.__module__


@cache  # the components of one plugin share the answer
def heavy_imports(value: str) -> dict[str, str]:
    """Return the heavy packages that loading `value` imports, and which module imported them.

    Raises RuntimeError with the last line of its errors where it cannot be loaded.
    """
    watch = str(Path(__file__).with_name("_watch.py"))
    done = subprocess.run(
        [sys.executable, watch, json.dumps(HEAVY), value],
        capture_output=True,
        text=True,
        check=False,
        # What this process can import; the toy plugins of a test folder included.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found
