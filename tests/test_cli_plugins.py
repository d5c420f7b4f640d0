from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from plugin_files import install
from rich.cells import cell_len

from mercore.citations import REFERENCE, entries
from mercore.cli import main
from mercore.plugins import KINDS


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugins", *arguments], catch_exceptions=False)


def mer_json(*arguments: str) -> Any:
    result = mer(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows(about: Any) -> dict[str, Any]:
    return {row["name"]: row for row in about["components"]}


def test_the_table_says_what_each_reads_and_gives_and_where_its_weights_are() -> None:
    found = rows(mer_json())
    assert found["letters"]["inputs"] == {"text": {"medium": "words", "optional": False}}
    assert (found["letters"]["dim"], found["letters"]["output"]) == (26, None)
    assert found["letters"]["weights"] == "none needed"
    assert found["mtcnn"]["output"]["medium"] == "video"
    assert found["mtcnn"]["weights"] == "in the package"
    assert found["hubert"]["weights"] == "not here"
    assert "hf download" in found["hubert"]["checkpoints"][0]["cure"]
    assert found["either"]["inputs"]["text"]["optional"]
    assert "import_seconds" not in found["letters"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_listed_alone(kind: str) -> None:
    assert {row["kind"] for row in mer_json(kind)["components"]} == {kind}
    assert mer(kind).stdout.splitlines()[0].split()[:2] == ["name", "kind"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_names_and_words_stay_whole_in_a_narrow_terminal(width: int) -> None:
    environment = {"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "dumb"}
    lines = CliRunner().invoke(main, ["plugins"], env=environment).stdout.splitlines()
    assert max(map(cell_len, lines)) <= width
    found = rows(mer_json())
    shown = {line.split()[0] for line in lines if line.strip()}
    assert set(found) <= shown
    words = {word for line in lines for word in line.split()}
    assert {row["distribution"] for row in found.values()} <= words


def test_options_before_a_subcommand_are_refused_and_not_lost() -> None:
    result = mer("--json", "encoder")
    assert result.exit_code == 2
    assert "put options behind 'encoder'" in result.output


def test_a_plugin_that_is_broken_is_listed_with_the_reason_and_the_place(
    tmp_path: Path,
) -> None:
    install(tmp_path, "acme-broken", "import no_such_module_anywhere\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    code = "from mercore.cli import main; main(['plugins', 'fusion'])"
    listed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("set aside")]
    assert line.startswith("set aside: plugin 'acme_broken' of acme-broken: ModuleNotFoundError")
    assert line.endswith(f"({tmp_path / 'acme_broken.py'}:1 in <module>)")


def test_times_are_measured_where_they_are_asked_for() -> None:
    found = mer_json("ensemble", "--times")["components"]
    assert all(0 < row["import_seconds"] < 60 for row in found)
    head, row, *_ = mer("ensemble", "--times").stdout.splitlines()
    assert head.split()[-2:] == ["import,", "ms"]
    assert row.split()[-1].isdigit()


def test_the_doctor_ends_with_1_for_an_error_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = install(tmp_path, "acme-broken", "import no_such_module_anywhere\n")
    monkeypatch.setattr("mercore.doctor.entry_points", lambda group: [broken])
    monkeypatch.syspath_prepend(str(tmp_path))
    result = mer("doctor")
    assert result.exit_code == 1
    assert "error: plugin 'acme_broken' of acme-broken: set aside: ModuleNotFou" in result.stdout
    assert result.stdout.endswith("  mend it, or pip uninstall acme-broken\n1 error\n")
    about = json.loads(mer("doctor", "--json").stdout)
    assert (about["healthy"], about["imports"]) == (False, [])
    assert about["findings"][0]["severity"] == "error"


def test_show_tells_all_of_a_component() -> None:
    about = mer_json("show", "hubert")
    assert (about["kind"], about["distribution"]) == ("encoder", "mercore-hubert")
    assert about["module"] == "mercore_hubert"
    assert about["source"].startswith("Hsu et al. 2021")
    options = {option["name"]: option for option in about["options"]}
    assert options["chunk"]["limits"] == {"minimum": 1}
    assert options["preset"]["default"] == "paper"
    assert entries(about["citation"])[0].key == "hsu2021hubert"
    assert yaml.safe_load(about["yaml"])["features"]["hubert"]["uses"] == "hubert"
    text = mer("show", "hubert").stdout
    for part in (
        "hubert: encoder of mercore-hubert",
        "input audio: audio, rate 16000",
        "pool: frames or mean; default frames\n    What to return: a row a frame",
        "licence of the weights:",
        "@article{hsu2021hubert,",
        "In registry.yaml:",
    ):
        assert part in text


def test_show_says_what_must_be_given() -> None:
    text = mer("show", "both").stdout
    assert "first: a preprocessor; must be given" in text
    assert "It needs options: both: with.first: Field required" in text


def test_bibtex_alone_is_all_that_is_printed() -> None:
    assert entries(mer("show", "tfn", "--bibtex").stdout)[0].key == "zadeh2017tensor"
    nothing = mer("show", "letters", "--bibtex")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "letters asks for no citation" in nothing.stderr


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    for command in ("show", "test"):
        result = mer(command, "huber")
        assert result.exit_code == 1
        assert "Error: no component is called 'huber'; did you mean 'hubert'?" in result.stderr


def test_cite_prints_the_works_of_a_registry(tmp_path: Path) -> None:
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        "classes: [sad, happy]\nfeatures: {few: {uses: letters, inputs: {text: text}}}\n"
        "fusion: lmf\nbranches: {all: few}\nensemble: majority\n"
    )
    keys = [work.key for work in entries(mer("cite", "--registry", str(registry)).stdout)]
    assert keys == [entries(REFERENCE)[0].key, "liu2018efficient"]
    about = mer_json("cite", "--registry", str(registry))
    assert about[1]["used_by"] == ["lmf"]
    assert mer("cite", "--registry", str(tmp_path / "no.yaml")).exit_code == 1


def test_test_prints_a_row_a_check_and_ends_with_1_where_one_failed(tmp_path: Path) -> None:
    options = tmp_path / "options.yaml"
    options.write_text("letters: 4\n")
    result = mer("test", "letters", "--with", str(options), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "order is kept" in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].startswith("encoder letters: ")
    broken = mer("test", "wobbly", "--device", "cpu")
    assert broken.exit_code == 1
    assert "failed:\nwobbly: " in broken.stdout
    assert "Cure: " in broken.stdout


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("letters=x", 1, "letters: with.letters: Input should be a valid integer"),
        ("letters=[1", 2, "the value is not YAML"),
        ("nothing", 2, "--with nothing: expected KEY=VALUE, or a YAML file"),
        ("leters=3", 1, "unknown option; did you mean 'letters'?"),
    ],
)
def test_wrong_options_of_test_say_what_is_wrong(given: str, code: int, said: str) -> None:
    result = mer("test", "letters", "--with", given)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
