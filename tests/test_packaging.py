from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
EXTRAS = {"nn": "mercore.nn", "speech": "mercore.denoising"}
"""The extras of the core, and the module that needs each."""
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return read


def distribution(requirement: str) -> str:
    """Return the name in front of the extras and versions, as package indexes write it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return name[0].lower().replace("_", "-")


def pins() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {distribution(line) for line in lines if "==" in line}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_is_packaged_like_the_others(folder: Path) -> None:
    core, plugin = project(ROOT), project(folder)
    module = f"mercore_{folder.name}"
    assert plugin["name"] == f"mercore-{folder.name}"
    assert plugin["version"] == core["version"]
    assert plugin["requires-python"] == core["requires-python"]
    assert plugin["classifiers"] == core["classifiers"]
    assert plugin["license"].split(" AND ")[0] == core["license"]
    assert plugin["entry-points"]["mercore"] == {module: module}
    assert (folder / "README.md").is_file()
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert list((folder / "tests").glob("test_*.py"))
    assert f"-e plugins/{folder.name}\n" in (ROOT / "requirements.txt").read_text()


def test_every_dependency_has_its_tested_version_in_the_constraints() -> None:
    for folder in (ROOT, *PLUGINS):
        extras = project(folder).get("optional-dependencies", {}).values()
        for requirement in sum(extras, project(folder)["dependencies"]):
            name = distribution(requirement)
            assert name.startswith("mercore") or name in pins(), f"{folder.name}: {name}"


def imported(package: Path) -> set[str]:
    """Return the distributions that the modules of a package import."""
    known = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    nodes = [
        node for path in package.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
    ]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    tops = {name.partition(".")[0] for name in names} - {package.name, "mercore"}
    return {known.get(top, top.replace("_", "-")) for top in tops - set(sys.stdlib_module_names)}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_declares_what_it_imports(folder: Path) -> None:
    about = project(folder)
    extras = about.get("optional-dependencies", {}).values()
    declared = {distribution(requirement) for requirement in sum(extras, about["dependencies"])}
    assert imported(folder / f"mercore_{folder.name}") <= declared
    code = "".join(path.read_text() for path in folder.glob("mercore_*/*.py"))
    used = [extra for extra, module in EXTRAS.items() if module in code]
    core = f"mercore[{','.join(used)}]" if used else "mercore"
    assert core in about["dependencies"]


def test_every_development_requirement_has_its_tested_version_in_the_constraints() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert {distribution(line) for line in lines if line[:1] not in ("", "#")} <= pins()


def test_make_bench_runs_every_benchmark() -> None:
    (listed,) = re.findall(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    scripts = (ROOT / "benchmarks").glob("*.py")
    runnable = {path.stem for path in scripts if "__main__" in path.read_text()}
    assert sorted(listed.split()) == sorted(runnable)
