from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return read


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_is_packaged_like_the_others(folder: Path) -> None:
    core, plugin = project(ROOT), project(folder)
    module = f"mercore_{folder.name}"
    assert plugin["name"] == f"mercore-{folder.name}"
    assert plugin["version"] == core["version"]
    assert plugin["requires-python"] == core["requires-python"]
    assert plugin["license"] == core["license"]
    assert plugin["entry-points"]["mercore"] == {module: module}
    assert (folder / "README.md").is_file()
    assert (folder / module / "py.typed").is_file()
    assert list((folder / "tests").glob("test_*.py"))
    assert f"-e plugins/{folder.name}\n" in (ROOT / "requirements.txt").read_text()


def test_every_dependency_has_its_tested_version_in_the_constraints() -> None:
    pinned = {
        line.partition("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for folder in (ROOT, *PLUGINS):
        for requirement in project(folder)["dependencies"]:
            name = requirement.partition(">")[0].partition("=")[0].strip().lower()
            assert name.startswith("mercore") or name in pinned, f"{folder.name}: {name}"
