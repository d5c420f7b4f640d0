"""The plugin of pytest: a marker, a table of verdicts, and clips to test with.

pytest imports it in every run of every project of the environment, so it imports nothing heavy:
checks are known by the package they come from, and numpy comes with the first clip.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mercore.testing._verdicts import KEY, Verdicts

_PACKAGE = "mercore.testing."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--mercore-verdicts``."""
    parser.getgroup("mercore").addoption(
        "--mercore-verdicts",
        action="store_true",
        help="end with a table of the checks of mercore.testing: component, check, verdict",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that all checks carry; look at verdicts only where they are asked for."""
    config.addinivalue_line(
        "markers", "mercore: a check of mercore.testing; every one has it by itself"
    )
    if config.getoption("mercore_verdicts"):
        config.pluginmanager.register(Verdicts(), "mercore_verdicts")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a check, and note whose it is."""
    if not _is_check(item):
        return
    item.add_marker("mercore")
    if item.config.getoption("mercore_verdicts"):
        component = getattr(getattr(item, "cls", None), "component", None)
        item.user_properties.append((KEY, getattr(component, "name", "no component")))


def _is_check(item: pytest.Item) -> bool:
    """Return whether it is a check of mercore.testing, overridden or not."""
    name = getattr(item, "originalname", item.name)
    suite = getattr(item, "cls", None)
    owners = [base for base in getattr(suite, "__mro__", ()) if name in vars(base)]
    return bool(owners) and owners[-1].__module__.startswith(_PACKAGE)


@pytest.fixture(scope="session")
def mercore_audio_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a WAV file: a second of noise and a tone, 16 kHz, mono."""
    from mercore.encode import write_wav
    from mercore.testing._samples import sound

    path = tmp_path_factory.mktemp("mercore") / "clip.wav"
    write_wav(path, sound(1.0, 16_000))
    return path


@pytest.fixture(scope="session")
def mercore_video_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of an MP4 file: ten frames in a second, with the same sound."""
    from mercore.encode import write_mp4
    from mercore.testing._samples import pictures, sound

    path = tmp_path_factory.mktemp("mercore") / "clip.mp4"
    write_mp4(path, [pictures(10)], sound(1.0, 16_000))
    return path
