"""The plugin that `mer new` writes: its files, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from datetime import date
from itertools import chain
from pathlib import Path

import pytest
import yaml

from mercore.cli.new import INPUTS, KINDS, LICENCES
from mercore.errors import PluginError
from mercore.scaffold import LONGEST, Scaffold, component_name, create

ROOT = Path(__file__).parent.parent
LONG = "x" * LONGEST
EXAMPLES = [
    *(Scaffold("encoder", f"new_{medium}", "Ada Lovelace", input=medium) for medium in INPUTS),
    Scaffold("preprocessor", "new_level", "Ada Lovelace"),
    Scaffold("fusion", "new_mean", "Ada Lovelace"),
    Scaffold("ensemble", "new_weighted", "Ada Lovelace"),
]
WIDEST = "Ж" * 60
"""The longest author."""


def named(example: Scaffold, name: str) -> Scaffold:
    return Scaffold(example.kind, name, WIDEST, input=example.input)


def ids(example: Scaffold) -> str:
    return example.name


def tool(*command: str | Path, folder: Path, **environment: str) -> None:
    """Run a tool of this environment; its output is shown when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_of_them_are_clean_by_ruff_whatever_the_length_of_the_name(tmp_path: Path) -> None:
    for example, name in ((e, n) for e in EXAMPLES for n in ("x", e.name, LONG)):
        parent = tmp_path / f"{example.name}_{len(name)}"
        create(named(example, name), parent)
    tool("ruff", "check", "--no-cache", tmp_path, folder=tmp_path)
    tool("ruff", "format", "--no-cache", "--check", tmp_path, folder=tmp_path)


def test_all_of_them_are_clean_by_strict_mypy(tmp_path: Path) -> None:
    folders = [create(example, tmp_path) for example in EXAMPLES]
    packages = [folder / e.package for folder, e in zip(folders, EXAMPLES, strict=True)]
    tests = [folder / "tests" for folder in folders]
    path = os.pathsep.join(map(str, folders))
    # In the root, with the settings and the cache of `make types`: else it takes as long as that.
    tool("mypy", "--strict", *packages, *tests, folder=ROOT, MYPYPATH=path)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_the_project_file_says_what_was_chosen(example: Scaffold) -> None:
    read = tomllib.loads(example.files()["pyproject.toml"])
    project = read["project"]
    assert project["name"] == f"mercore-{example.name}"
    assert project["license"] == "MIT"
    assert project["authors"] == [{"name": "Ada Lovelace"}]
    assert project["entry-points"] == {"mercore": {example.package: example.package}}
    assert project["optional-dependencies"] == {"test": ["mercore[test]"]}
    imported = set(re.findall(r"^(?:from|import) (\w+)", code(example), re.MULTILINE))
    declared = {re.split(r"\W", requirement)[0] for requirement in project["dependencies"]}
    assert imported & {"numpy", "pydantic", "torch", "mercore"} == declared
    assert ("mercore[nn]" in project["dependencies"][0]) == ("mercore.nn" in code(example))


def code(example: Scaffold) -> str:
    return "".join(text for path, text in example.files().items() if "/_" in path)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_the_readme_has_the_lines_for_the_registry_and_nothing_left_open(example: Scaffold) -> None:
    readme = example.files()["README.md"]
    assert f"```yaml\n{example.registry_lines()}```\n" in readme
    assert example.name in str(yaml.safe_load(example.registry_lines()))
    assert all("{{" not in text for path, text in example.files().items() if path[0] != ".")


def test_the_workflow_is_yaml_and_runs_what_the_readme_says() -> None:
    workflow = yaml.safe_load(EXAMPLES[0].files()[".github/workflows/test.yml"])
    steps = workflow["jobs"]["test"]["steps"]
    assert steps[1]["with"] == {"python-version": "${{ matrix.python }}"}
    runs = [step["run"] for step in steps if "run" in step]
    assert runs == [
        'pip install -e ".[test]" mypy ruff', "ruff check", "ruff format --check", "mypy", "pytest",
    ]  # fmt: skip


@pytest.mark.parametrize("licence", LICENCES)
def test_the_licence_is_whole_and_names_year_and_author(licence: str) -> None:
    files = Scaffold("fusion", "new_mean", "Ada Lovelace", licence=licence).files()
    text = files["LICENSE"]
    line = next(line for line in text.splitlines() if "Ada Lovelace" in line)
    assert re.fullmatch(rf" *Copyright (\(c\) )?{date.today().year},? Ada Lovelace", line)
    words = {"MIT": "MIT License", "Apache-2.0": "APPENDIX", "BSD-3-Clause": "Neither the name"}
    assert words[licence] in text
    assert tomllib.loads(files["pyproject.toml"])["project"]["license"] == licence
    assert f"\n{licence}: see" in files["README.md"]


def test_the_apache_licence_is_that_of_mercore() -> None:
    text = Scaffold("fusion", "new_mean", "Ada", licence="Apache-2.0").files()["LICENSE"]
    ours = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.replace(f"{date.today().year} Ada", "[yyyy] [name of copyright owner]") == ours


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MyEncoder", "expected lower-case letters.*did you mean 'my_encoder'"),
        ("my encoder", "did you mean 'my_encoder'"),
        ("2nd_try", "did you mean 'nd_try'"),
        ("Mercore_Mine", "did you mean 'mine'"),
        ("../escape", "did you mean 'escape'"),
        ("声音", "the first one a letter$"),
        ("", "the first one a letter$"),
        ("x" * (LONGEST + 1), f"found {LONGEST + 1} characters, expected {LONGEST} at most"),
        ("lambda", "a word of Python; take another, such as 'my_lambda'"),
        ("null", "registry.yaml would read it as None"),
        ("off", "registry.yaml would read it as False"),
        ("audio", "a stream that every manifest has"),
        ("encoder", "its class would be 'Encoder', and mercore has one"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_one_that_can(name: str, said: str) -> None:
    with pytest.raises(PluginError, match=rf"name {name!r}: .*{said}"):
        Scaffold("encoder", name, "Ada")


def test_the_class_of_a_network_is_not_that_of_mercore() -> None:
    with pytest.raises(PluginError, match=r"'NetworkFusion'.*such as 'my_network'"):
        Scaffold("fusion", "network", "Ada")
    assert Scaffold("fusion", "my_network", "Ada").cls == "MyNetworkFusion"
    assert Scaffold("fusion", "late_fusion", "Ada").cls == "LateFusion"


@pytest.mark.parametrize("given", ["my-encoder", "mercore-my-encoder", "my_encoder"])
def test_a_name_may_be_given_as_that_of_a_distribution(given: str) -> None:
    assert component_name(given) == "my_encoder"


@pytest.mark.parametrize(
    ("author", "said"),
    [
        ("Ada <ada@example.org>", "found < >, expected a name alone"),
        ('Ada "Countess"', 'found ", expected'),
        ("Ada\nLovelace", "expected one line of 60 characters at most"),
        (" ", "expected one line"),
        ("A" * 61, "expected one line of 60"),
    ],
)
def test_an_author_that_would_break_a_file_is_refused(author: str, said: str) -> None:
    with pytest.raises(PluginError, match=f"{said}.*--author"):
        Scaffold("encoder", "new_one", author)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("encoder", "hubert", r"mercore-hubert \S+ provides the encoder 'hubert'"),
        ("ensemble", "hubert", "mercore-hubert has a plugin called 'mercore_hubert'"),
        ("encoder", "voting", "mercore has a plugin called 'mercore_voting'"),
        ("fusion", "toys", "'mercore_toys'"),
    ],
)
def test_a_name_that_is_installed_is_refused_with_its_owner(
    kind: str, name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=f"{said}.*take another name, or uninstall that"):
        create(Scaffold(kind, name, "Ada"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_files_are_written_below_a_folder_that_is_made(tmp_path: Path) -> None:
    folder = create(EXAMPLES[0], tmp_path / "some" / "where")
    assert folder == tmp_path / "some/where/mercore-new_audio"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(EXAMPLES[0].files()) == {
        ".github/workflows/test.yml", ".gitignore", "LICENSE", "README.md",
        "mercore_new_audio/__init__.py", "mercore_new_audio/_model.py",
        "mercore_new_audio/py.typed", "pyproject.toml", "tests/test_new_audio.py",
    }  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert folder.stat().st_mode == folder.parent.stat().st_mode


def test_an_empty_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "mercore-new_audio").mkdir()
    assert (create(EXAMPLES[0], tmp_path) / "pyproject.toml").is_file()


@pytest.mark.parametrize("there", ["folder", "file", "link", "dangling"])
def test_nothing_that_is_there_is_overwritten(there: str, tmp_path: Path) -> None:
    place = tmp_path / "mercore-new_audio"
    if there == "folder":
        place.mkdir()
        (place / "mine.py").write_text("mine")
    elif there == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path if there == "link" else tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PluginError, match=r"mercore-new_audio is there already.*--into"):
        create(EXAMPLES[0], tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_an_error_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PluginError, match="file is a file, expected the folder that gets mercore-"):
        create(EXAMPLES[0], tmp_path / "file")
    with pytest.raises(PluginError, match=r"cannot write .*: Not a directory; nothing was written"):
        create(EXAMPLES[0], tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_template_is_used() -> None:
    below = ROOT / "mercore/templates/plugin"
    kept = {path.relative_to(below).as_posix() for path in below.rglob("*.jinja")}
    folders = {path.split("/")[0] for path in kept if "/" in path}
    examples = {f"{medium}_encoder" for medium in INPUTS} | {*KINDS} - {"encoder"}
    assert folders == examples | {"licences"}
    parts = {f"{name}/{part}.jinja" for name in examples for part in ("component", "model", "test")}
    licences = {f"licences/{licence}.jinja" for licence in LICENCES}
    assert set(chain(parts, licences)) == {path for path in kept if "/" in path}
