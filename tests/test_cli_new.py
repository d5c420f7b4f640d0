from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mercore.cli import main
from mercore.cli.new import KINDS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a machine where git knows nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def mer_json(*arguments: str) -> Any:
    result = mer(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_says_what_to_do_next_and_what_to_paste(folder: Path) -> None:
    result = mer("new", "encoder", "new_one", "--into", "my plugins")
    assert result.exit_code == 0, result.output
    assert "my plugins/mercore-new_one: the encoder 'new_one', MIT" in result.stdout
    assert """\
Next:
  cd 'my plugins/mercore-new_one'
  pip install -e ".[test]"
  pytest
""" in result.stdout  # fmt: skip
    assert "    new_one: {uses: new_one, inputs: {audio: audio}}\n" in result.stdout
    assert result.stderr == ""


def test_json_has_what_was_written(folder: Path) -> None:
    about = mer_json("new", "fusion", "new_one", "--licence", "BSD-3-Clause", "--author", "Ada")
    assert (about["licence"], about["author"]) == ("BSD-3-Clause", "Ada")
    assert about["class"] == "NewOneFusion"
    assert all((folder / about["folder"] / path).is_file() for path in about["files"])


def test_the_author_is_who_git_says_unless_given(folder: Path) -> None:
    assert mer_json("new", "encoder", "new_one")["author"] == "The authors"
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "config", "user.name", "Grace Hopper"], check=True)
    assert mer_json("new", "encoder", "new_two")["author"] == "Grace Hopper"
    licence = (folder / "mercore-new_two/LICENSE").read_text()
    assert "Grace Hopper" in licence
    assert mer_json("new", "encoder", "new_three", "--author", "Ada")["author"] == "Ada"


def test_dashes_are_turned_and_it_says_so(folder: Path) -> None:
    result = mer("new", "encoder", "my-new-one")
    assert (
        "'my-new-one' became 'my_new_one': the name of a component has no dashes" in result.stderr
    )
    assert (folder / "mercore-my_new_one/mercore_my_new_one/_model.py").is_file()


def test_the_input_is_for_encoders_alone(folder: Path) -> None:
    result = mer("new", "fusion", "new_one", "--input", "text")
    assert result.exit_code == 2
    assert "--input: only an encoder has it, found kind 'fusion'" in result.stderr
    assert list(folder.iterdir()) == []


def test_a_kind_there_is_not_is_wrong_usage() -> None:
    result = mer("new", "encodr", "new_one")
    assert result.exit_code == 2
    assert all(kind in result.stderr for kind in KINDS)


def test_an_error_is_one_line_and_leaves_nothing(folder: Path) -> None:
    result = mer("new", "encoder", "MyEncoder")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: name 'MyEncoder': expected lower-case letters")
    assert result.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []
