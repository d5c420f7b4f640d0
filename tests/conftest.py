from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The toy plugin is found through its dist-info like any installed distribution.
sys.path.insert(0, str(Path(__file__).parent / "toys"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file below the temporary folder and return its path."""

    def to(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return to
