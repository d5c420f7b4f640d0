"""What it costs to find a plugin: the import of its module in a fresh interpreter.

This module is also what that interpreter runs: ``python -m mercore.imports MODULE`` prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from time import perf_counter

HEAVY = (
    "ctranslate2", "cv2", "faster_whisper", "funasr", "jax", "librosa", "matplotlib", "modelscope",
    "numba", "onnxruntime", "pandas", "peft", "scipy", "skimage", "sklearn", "tensorflow", "timm",
    "torch", "torchaudio", "torchvision", "transformers",
)  # fmt: skip
"""Packages that take long to import, or much memory."""

SLOW = 0.3
"""Seconds that no plugin needs to be found."""

_COMMON = ("mercore.plugins", "mercore.network", "mercore.checkpoints", "mercore.backends")
"""What every command that looks for plugins imports, or most plugins share."""


@dataclass(frozen=True)
class Cost:
    """What importing a module takes beyond what it shares with others."""

    seconds: float | None
    """Wall time; None where it cannot be imported."""
    heavy: Sequence[str]
    """The heavy packages that it brings in."""


def import_cost(module: str) -> Cost:
    """Return what importing the module costs in a fresh interpreter.

    Where that is slow, the better of two: the first import of a new module also compiles it.
    """
    first = _measured(module)
    if first.seconds is None or first.seconds <= SLOW:
        return first
    second = _measured(module)
    return min(first, second, key=lambda cost: cost.seconds or 0.0)


def costs_of(plugins: Iterable[str]) -> dict[str, Cost]:
    """Return what importing the module of each plugin costs, by the name of its entry point."""
    modules = {point.name: point.module for point in entry_points(group="mercore")}
    return {name: import_cost(modules[name]) for name in dict.fromkeys(plugins)}


def _measured(module: str) -> Cost:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mercore.imports", module],
        capture_output=True,
        text=True,
        check=False,
        # What this process can import, whatever its folder and its path are.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        return Cost(None, ())
    about = json.loads(done.stdout.splitlines()[-1])
    return Cost(about["seconds"], tuple(about["heavy"]))


def _main(module: str) -> None:
    for name in _COMMON:
        import_module(name)
    before = {name for name in HEAVY if name in sys.modules}
    began = perf_counter()
    import_module(module)
    seconds = perf_counter() - began
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    print(json.dumps({"seconds": seconds, "heavy": heavy}))


if __name__ == "__main__":
    _main(sys.argv[1])
