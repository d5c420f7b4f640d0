from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The toy plugin is found through its dist-info like any installed distribution.
sys.path.insert(0, str(Path(__file__).parent / "toys"))

# What runs in the background of a script ignores Ctrl-C, and so would what the tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The pages name hub ids; tests/test_hubs.py has a hub of its own.
os.environ["HF_HUB_OFFLINE"] = "1"

from places import KEYS, Folder, Place, Prefix, Server, moto


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """An S3 server for the whole session: moto takes a second to import."""
    with moto() as running:
        yield running


@pytest.fixture
def s3(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefix]:
    """A place on S3 that is empty, and named in the environment the standard way."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    yield Prefix(server, f"{secrets.token_hex(4)}/mer.zarr")
    server.deaf = False
    server.before.clear()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for a store: one on a disk, one on S3."""
    if request.param == "disk":
        return Folder(tmp_path / "mer.zarr")
    found: Prefix = request.getfixturevalue("s3")
    return found


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file below the temporary folder and return its path."""

    def to(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return to
