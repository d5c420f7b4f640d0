"""Environments that hold wheels alone: nothing in them leads back to the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UV = Path(sys.executable).with_name("uv")
BUILD = (UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable)


def run(*command: str | Path, folder: Path) -> str:
    """Return what the command prints; its errors are shown when it fails."""
    # Where packages come from stays as it is set up; what could lead to this environment goes.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MERCORE_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(home: Path, *requirements: str | Path) -> Path:
    """Return the folder of programs of a new environment with the requirements and no more."""
    run(UV, "venv", "--quiet", "--python", sys.executable, home / "venv", folder=home)
    install(home / "venv/bin", *requirements)
    return home / "venv/bin"


def install(programs: Path, *requirements: str | Path) -> None:
    """Add the requirements to the environment of those programs, in their tested versions."""
    run(UV, "pip", "install", "--quiet", "--python", programs / "python", "-c",
        ROOT / "constraints.txt", *requirements, folder=programs)  # fmt: skip
    lend_bytecode(*programs.parent.glob("lib/*/site-packages"))


def lend_bytecode(packages: Path) -> None:
    """Link the bytecode of this environment, where the same files are: to compile takes long."""
    own = Path(sysconfig.get_path("purelib"))
    for folder in own.rglob("__pycache__"):
        place = packages / folder.relative_to(own)
        if place.parent.is_dir() and not place.exists():
            place.symlink_to(folder)
