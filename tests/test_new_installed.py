"""What `mer new` writes, installed in an environment of its own: it is found, and it passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from environments import BUILD, ROOT, environment, install, run

NEW = (
    ("encoder", "new_audio", "--input", "audio"),
    ("encoder", "new_video", "--input", "video"),
    ("encoder", "new_text", "--input", "text"),
    ("preprocessor", "new_level"),
    ("fusion", "new_mean", "--licence", "BSD-3-Clause"),
    ("ensemble", "new_weighted", "--licence", "Apache-2.0", "--author", "Ada Lovelace"),
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with mercore from a wheel and nothing of its plugins."""
    home = tmp_path_factory.mktemp("environment")
    run(*BUILD, "--wheel", "--out-dir", home, ROOT, folder=home)
    (wheel,) = home.glob("*.whl")
    return environment(home, f"mercore[nn,test] @ {wheel.as_uri()}")


@pytest.fixture(scope="module")
def written(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the installed command says of the plugins that it wrote, which are installed too."""
    folder = tmp_path_factory.mktemp("written")
    made = [
        json.loads(run(programs / "mer", "new", *words, "--json", folder=folder)) for words in NEW
    ]
    places = [folder / about["folder"] for about in made]
    install(programs, *[f"--editable={place}[test]" for place in places])
    return [about | {"folder": place} for about, place in zip(made, places, strict=True)]


def test_all_of_them_are_listed(programs: Path, written: list[dict[str, Any]]) -> None:
    listed = json.loads(run(programs / "mer", "plugins", "--json", folder=programs))
    assert listed["broken"] == listed["conflicts"] == []
    found = {(row["distribution"], row["version"], row["kind"], row["name"])
             for row in listed["components"] if row["distribution"] != "mercore"}  # fmt: skip
    assert found == {(f"mercore-{name}", "0.1.0", kind, name) for kind, name, *_ in NEW}


@pytest.mark.parametrize("place", range(len(NEW)), ids=[words[1] for words in NEW])
def test_its_own_tests_pass(place: int, programs: Path, written: list[dict[str, Any]]) -> None:
    about = written[place]
    said = run(programs / "pytest", folder=about["folder"])
    assert " passed" in said
    assert " failed" not in said


def test_its_name_is_taken_from_then_on(programs: Path, written: list[dict[str, Any]]) -> None:
    folder = written[0]["folder"].parent
    with pytest.raises(AssertionError, match=r"mercore-new_audio 0.1.0 provides the encoder"):
        run(programs / "mer", "new", "encoder", "new_audio", "--into", "other", folder=folder)


def test_they_work_together(programs: Path, written: list[dict[str, Any]], tmp_path: Path) -> None:
    lines = {about["name"]: about["registry"] for about in written}
    registry = f"""\
classes: [sad, happy]
{lines["new_level"]}{lines["new_audio"]}branches: {{one: new_audio}}
{lines["new_mean"]}{lines["new_weighted"]}"""
    (tmp_path / "registry.yaml").write_text(registry)
    assert "no mistakes" in run(programs / "mer", "check", folder=tmp_path)
