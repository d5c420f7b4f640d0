"""The wheels, installed in an empty environment and used in an empty folder."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from environments import BUILD, ROOT, environment, run

FOLDERS = {"mercore": "."} | {
    f"mercore_{path.parent.name}": f"plugins/{path.parent.name}"
    for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
}
REGISTRY = """\
classes: [sad, happy]
features:
  prosody: {uses: prosody, inputs: {audio: audio}}
branches:
  one: {features: prosody, uses: linear}
  two: {features: prosody, uses: attention}
"""
SUITE = """\
from mercore.testing import EnsembleTests
from mercore.voting import Majority


class TestMajority(EnsembleTests):
    component = Majority()
"""
IMPORT_ALL = """\
import importlib, pkgutil, sys
# What needs pytest, or Ray.
NEEDY = ("mercore.testing", *(f"mercore.engines._{n}" for n in ("ray", "cluster", "tasks")))
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if found.name.startswith(NEEDY):
            continue
        importlib.import_module(found.name)
"""


def known(*paths: str, folder: Path = ROOT) -> set[str]:
    """Return the files that git tracks or would take, relative to the folder."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *paths]
    names = run(*listing, folder=folder).split("\0")
    return {name for name in names if name and (folder / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist of each distribution, made of what git knows alone.

    These wheels are made of the sdists; those in its subfolder ``direct`` of the files themselves.
    """
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in known():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for folder in FOLDERS.values():
        run(*BUILD, "--out-dir", out, source / folder, folder=source)
        run(*BUILD, "--wheel", "--out-dir", out / "direct", source / folder, folder=source)
    return out


@pytest.fixture(scope="module")
def binaries(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with all wheels and without the extras."""
    return environment(tmp_path_factory.mktemp("environment"), *built.glob("*.whl"))


def contents(folder: Path, module: str) -> dict[str, bytes]:
    """Return the files in the module's wheel, by name."""
    (path,) = folder.glob(f"{module}-*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def metadata(built: Path, module: str) -> Message:
    files = contents(built, module)
    (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(files[name])


@pytest.mark.parametrize("module", FOLDERS)
def test_a_wheel_holds_all_of_its_package_and_nothing_else(built: Path, module: str) -> None:
    found = set(contents(built, module))
    package = {name for name in found if ".dist-info/" not in name}
    assert package == known(module, folder=ROOT / FOLDERS[module])
    assert f"{module}/py.typed" in found


@pytest.mark.parametrize("module", FOLDERS)
def test_a_wheel_is_the_same_with_and_without_the_sdist_between(built: Path, module: str) -> None:
    assert contents(built, module) == contents(built / "direct", module)


@pytest.mark.parametrize("module", FOLDERS)
def test_a_wheel_says_its_licence_and_the_pythons_it_is_for(built: Path, module: str) -> None:
    found = metadata(built, module)
    assert found["License-Expression"].split(" AND ")[0] == "Apache-2.0"
    assert found["Requires-Python"] == ">=3.11"
    classifiers = found.get_all("Classifier", [])
    versions = [line.rpartition(":: ")[2] for line in classifiers if ":: Python :: 3." in line]
    assert versions == ["3.11", "3.12", "3.13"]
    assert "Typing :: Typed" in classifiers
    licences = found.get_all("License-File", [])
    assert "LICENSE" in licences
    files = contents(built, module)
    assert all(any(name.endswith(f"licenses/{each}") for name in files) for each in licences)


def test_the_weights_come_with_their_licence(built: Path) -> None:
    found = metadata(built, "mercore_starter")
    assert found["License-Expression"] == "Apache-2.0 AND MIT"
    assert "mercore_starter/weights/NOTICE.md" in found.get_all("License-File", [])


def test_the_core_has_the_templates_of_new_plugins(built: Path) -> None:
    name = "mercore/templates/plugin/audio_encoder/component.jinja"
    assert b"class {{ cls }}(Encoder):" in contents(built, "mercore")[name]


@pytest.mark.parametrize("module", FOLDERS)
def test_an_sdist_holds_what_the_wheel_is_made_of(built: Path, module: str) -> None:
    (sdist,) = built.glob(f"{module}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    wheel = {name for name in contents(built, module) if ".dist-info/" not in name}
    beside = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}
    assert found == wheel | beside


def test_all_of_it_works_without_the_repository(binaries: Path, tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    shutil.copy(next(ROOT.glob("tests/data/*.flac")), tmp_path / "clip.flac")
    (tmp_path / "manifest.csv").write_text("id,split,label,audio\nclip,test,sad,clip.flac\n")
    assert "extract" in run(binaries / "mer", "--help", folder=tmp_path)
    plugins = json.loads(run(binaries / "mer", "plugins", "--json", folder=tmp_path))
    assert plugins["broken"] == plugins["conflicts"] == []
    provided = {row["distribution"].replace("-", "_") for row in plugins["components"]}
    assert provided == set(FOLDERS)
    assert "no mistakes" in run(binaries / "mer", "check", folder=tmp_path)
    (row,) = json.loads(run(binaries / "mer", "extract", "--json", folder=tmp_path))
    assert (row["name"], row["extracted"], row["failed"]) == ("prosody", 1, 0)
    assert "prosody" in run(binaries / "mer", "status", folder=tmp_path)


@pytest.mark.slow
def test_every_module_can_be_imported(binaries: Path, tmp_path: Path) -> None:
    run(binaries / "python", "-c", IMPORT_ALL, *FOLDERS, folder=tmp_path)
    where = run(binaries / "python", "-c", "import mercore; print(mercore.__file__)",
                folder=tmp_path)  # fmt: skip
    assert Path(where.strip()).is_relative_to(binaries.parent)


def test_the_extras_bring_the_suites_and_s3(
    built: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (core,) = built.glob("mercore-*.whl")
    home = tmp_path_factory.mktemp("extras")
    programs = environment(home, f"mercore[s3,test] @ {core.as_uri()}")
    (tmp_path / "test_majority.py").write_text(SUITE)
    assert " passed" in run(programs / "pytest", "-W", "error", folder=tmp_path)
    run(programs / "python", "-c", "import obstore.store", folder=tmp_path)
