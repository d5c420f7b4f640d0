from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_mer import mer, mer_json
from safetensors.numpy import load_file
from toy_projects import write_texts

import mercore_toys
from mercore.components import Encode
from mercore_toys import Letters

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}}
  all: {uses: letters, inputs: {text: text}}
fusion: centroid
branches:
  one: few
  two: all
  both: few + all
ensemble: rank_mode
folds: 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose sad samples say `a` and whose happy ones say `b`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    write_texts(tmp_path)
    return tmp_path


def predictions(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "runs/default/predictions.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_run_goes_from_clips_to_a_vote(folder: Path) -> None:
    result = mer("run")
    assert result.exit_code == 0, result.output
    assert "Report: runs/default/report.html" in result.stdout
    rows = predictions(folder)
    assert len(rows) == 36
    assert all(
        row["predicted"] == ("sad", "happy")[int(name[1:]) % 2] for name, row in rows.items()
    )
    report = json.loads((folder / "runs/default/report.json").read_text())
    assert report["ensemble"]["scores"]["test1"]["waf"] == 1.0


def test_what_is_done_and_unchanged_is_not_done_again(folder: Path) -> None:
    first = mer_json("run")
    assert first["trained"] == ["one", "two", "both"]
    before = (folder / "runs/default/branches/one/fold0.safetensors").stat().st_mtime_ns
    again = mer_json("run")
    assert again["trained"] == []
    assert [row["extracted"] for row in again["extracted"]] == [0, 0]
    assert (folder / "runs/default/branches/one/fold0.safetensors").stat().st_mtime_ns == before
    text = REGISTRY.replace("one: few", "one: {features: few, with: {sharpness: 2}}")
    (folder / "registry.yaml").write_text(text)
    assert mer_json("run")["trained"] == ["one"]


def test_a_changed_sample_trains_its_branches_again(folder: Path) -> None:
    mer_json("run")
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("s0,train,sad,a c", "s0,train,sad,aaaa c"))
    again = mer_json("run")
    assert [row["extracted"] for row in again["extracted"]] == [1, 1]
    assert again["trained"] == ["one", "two", "both"]


def test_training_samples_are_predicted_by_folds_that_did_not_see_them(folder: Path) -> None:
    mer_json("run")
    with (folder / "runs/default/folds.csv").open() as file:
        folds = {row["id"]: int(row["fold"]) for row in csv.DictReader(file)}
    assert set(folds) == {f"s{number}" for number in range(18)}
    assert sorted(np.bincount(list(folds.values())).tolist()) == [6, 6, 6]
    for fold in range(3):
        odd = [int(name[1:]) % 2 for name, number in folds.items() if number == fold]
        assert sum(odd) == 3  # stratified
    weights = load_file(folder / "runs/default/branches/one/fold0.safetensors")
    seen = [int(name[1:]) for name, number in folds.items() if number != 0]
    sad = np.mean([[1 + n % 3, 0, 0] for n in seen if n % 2 == 0], axis=0) / 2
    assert weights["centres"][0][:2] == pytest.approx(sad[:2])


def test_the_steps_may_be_run_one_by_one(folder: Path) -> None:
    assert mer("train").exit_code == 1
    assert [row["name"] for row in mer_json("extract", "few")] == ["few"]
    assert mer_json("extract")[1]["extracted"] == 36
    assert {row["branch"] for row in mer_json("train")} == {"one", "two", "both"}
    assert mer_json("ensemble")["decided"]["test1"] == {"sad": 6, "happy": 6}
    assert mer_json("report")["format"] == 1
    for command in ("extract", "train", "ensemble", "report", "status", "check", "plugins"):
        result = mer(command)
        assert result.exit_code == 0, result.output
        assert result.stdout


def test_the_scores_are_printed_for_papers(folder: Path) -> None:
    mer_json("run")
    head, _, *rows = mer("report", "--markdown").stdout.splitlines()
    cells = [cell.strip() for cell in head.strip("|").split("|")]
    assert cells[0] == "branch"
    assert cells[1:3] == ["WAF, train (cross-validated)", "accuracy, train (cross-validated)"]
    assert cells[3:] == ["WAF, test1", "accuracy, test1"]
    assert [row.split("|")[1].strip() for row in rows] == ["one", "two", "both", "ensemble"]
    paper = mer("report", "--latex").stdout
    assert paper.startswith("\\begin{tabular}{lrrrr}")
    assert "\nboth & 1.0000 (1.000 to 1.000) & 1.0000 & 1.0000 (1.000 to 1.000)" in paper
    assert (folder / "runs/default/report.html").exists()


def test_a_run_is_repeated_bit_for_bit(folder: Path) -> None:
    mer_json("run")
    mer_json("run", "--out", "runs/again", "--store", "again.zarr")
    for name in ("predictions.csv", "folds.csv", "branches/both/fold1.safetensors"):
        first, second = folder / "runs/default" / name, folder / "runs/again" / name
        assert first.read_bytes() == second.read_bytes()


def test_failed_samples_end_with_status_3_and_are_predicted_with_zeros(folder: Path) -> None:
    with (folder / "manifest.csv").open("a") as file:
        file.write("odd,test1,sad,refuse\n")
    result = mer("run")
    assert result.exit_code == 3
    assert "few: odd failed: this text is refused" in result.stdout
    assert predictions(folder)["odd"]["predicted"] in ("sad", "happy")
    report = json.loads((folder / "runs/default/report.json").read_text())
    assert [branch["filled"] for branch in report["branches"]] == [1, 1, 1]


def test_a_table_that_is_read_by_a_program_has_each_row_in_one_line() -> None:
    lines = mer("plugins").stdout.splitlines()
    rows = mer_json("plugins")["components"]
    for row, line in zip(rows, lines[1:], strict=False):
        assert line.split()[:2] == [row["name"], row["kind"]]
        assert line.rstrip().endswith(row["weights"])
    assert max(map(len, lines)) > 80


def test_status_and_prune_tell_current_from_superseded(folder: Path) -> None:
    mer_json("extract")
    (folder / "registry.yaml").write_text(REGISTRY.replace("letters: 3", "letters: 4"))
    about = mer_json("status")
    assert {row["name"]: row["done"] for row in about["current"]} == {
        "loud": 0,
        "few": 0,
        "all": 36,
    }
    (stale,) = about["superseded"]
    assert stale["name"].startswith("features/few@")
    shown = mer("prune", "--dry-run")
    assert shown.exit_code == 0
    assert f"{stale['bytes'] / 1e3:.1f} kB" in shown.stdout
    assert len(mer_json("status")["superseded"]) == 1
    assert mer("prune", "--yes").exit_code == 0
    assert mer_json("status")["superseded"] == []
    assert mer_json("status")["current"][2]["done"] == 36
    assert "nothing to delete" in mer("prune", "--yes").stdout


def test_show_tells_what_is_stored_of_samples(folder: Path) -> None:
    rows = (folder / "manifest.csv").read_text()
    rows = rows.replace("s1,train,happy,bb c", "s1,train,happy,refuse")
    (folder / "manifest.csv").write_text(rows)
    assert mer("extract", "all").exit_code == 3
    assert "run `mer extract few`" in mer("show", "few").stderr
    assert mer("extract").exit_code == 3
    one, other = mer_json("show", "few", "s2", "s1")
    assert one == {"id": "s2", "failed": None, "rows": 1, "record": {}}
    assert other["failed"] == "this text is refused"
    assert len(mer_json("show", "all")) == 36
    assert mer("show", "few", "s1").stdout == "s1: failed: this text is refused\n"
    assert "did you mean 'few'" in mer("show", "fwe").stderr
    assert "'nobody'" in mer("show", "few", "nobody").stderr


def test_show_tells_the_words_and_what_was_noted(folder: Path) -> None:
    text = REGISTRY.replace("inputs: {text: text}, with", "inputs: {text: loud}, with")
    (folder / "registry.yaml").write_text(text)
    manifest = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(manifest.replace("aaa c", "so loud"))
    mer_json("extract")
    assert mer_json("show", "loud", "s0")[0]["text"] == "A C!"
    assert mer("show", "loud", "s2").stdout == "s2: 'SO LOUD!'; 8 rows; warning: loud\n"


def test_an_error_is_one_message_and_status_1(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("uses: letters", "uses: leters"))
    result = mer("run")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: registry.yaml has 2 mistakes:\n  registry.yaml:5: ")
    with pytest.raises(Exception, match="did you mean 'letters'"):
        mer("--debug", "run")


def test_wrong_usage_is_status_2(folder: Path) -> None:
    assert mer("run", "--no-such-option").exit_code == 2
    assert mer("rum").exit_code == 2


def test_too_few_training_samples_are_said_to_be_so(folder: Path) -> None:
    text = (folder / "registry.yaml").read_text().replace("folds: 3", "folds: 30")
    (folder / "registry.yaml").write_text(text)
    result = mer("run")
    assert result.exit_code == 1
    assert "18 labelled train samples of the classes sad, happy: 30 folds need" in result.stderr


def test_a_torn_branch_is_trained_again(folder: Path) -> None:
    mer_json("run")
    (folder / "runs/default/branches/one/branch.json").unlink()
    assert mer_json("run")["trained"] == ["one"]


def test_a_branch_says_what_computed_it(folder: Path) -> None:
    mer_json("run")
    about = json.loads((folder / "runs/default/branches/one/branch.json").read_text())
    assert set(about["versions"]) >= {"mercore", "mercore-toys", "numpy", "zarr"}
    assert about["versions"]["numpy"] == np.__version__


def test_predictions_of_another_manifest_are_not_taken_for_this_one(folder: Path) -> None:
    mer_json("run")
    with (folder / "manifest.csv").open("a") as file:
        file.write("late,test1,sad,a c\n")
    mer_json("extract")
    result = mer("ensemble")
    assert result.exit_code == 1
    assert "branch 'one' is not trained on what the registry" in result.stderr


def test_options_come_from_the_environment_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mer_json("extract", "--store", "elsewhere.zarr")
    monkeypatch.setenv("MERCORE_STATUS_STORE", "elsewhere.zarr")
    assert mer_json("status")["store"].endswith("elsewhere.zarr")


def test_schema_prints_json_schema() -> None:
    assert json.loads(mer("schema").stdout)["title"] == "mercore registry.yaml"


def test_help_imports_neither_torch_nor_plugins_nor_zarr() -> None:
    code = (
        "import sys\n"
        "from mercore.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'zarr', 'sklearn', 'av', 'rich', 'yaml', 'mercore_toys',"
        " 'mercore_starter', 'mercore_attention'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Extract features" in done.stdout


def test_status_imports_neither_decoders_nor_what_trains_and_reports(folder: Path) -> None:
    mer_json("extract")
    code = (
        "import sys\n"
        "from mercore.cli import main\n"
        "main(['status'], standalone_mode=False)\n"
        "heavy = {'av', 'soxr', 'torch', 'zarr', 'sklearn', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mercore_toys.__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "36 of 36" in done.stdout


def test_a_store_is_made_by_extract_alone(folder: Path) -> None:
    result = mer("status", "--store", "typo.zarr")
    assert result.exit_code == 1
    assert "typo.zarr: no store there; mer extract makes one" in result.stderr
    assert not (folder / "typo.zarr").exists()


def test_what_cannot_be_trained_is_said_before_anything_is_extracted(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("folds: 3", "folds: 19"))
    assert mer("run").exit_code == 1
    assert mer_json("status")["current"][1]["done"] == 0
    text = REGISTRY[: REGISTRY.index("fusion:")]
    (folder / "registry.yaml").write_text(text)
    for command in ("run", "train", "ensemble", "report"):
        result = mer(command)
        assert (result.exit_code, "declares no branches" in result.stderr) == (1, True)


def test_options_out_of_range_are_wrong_usage(folder: Path) -> None:
    for option in ("--threads=0", "--parallel=-1", "--batch=0"):
        assert mer("run", option).exit_code == 2, option
    assert mer("run", "--batch=nan").exit_code == 1
    result = mer("run", "--device", "gpu")
    assert (result.exit_code, "expected auto, cpu, cuda" in result.stderr) == (1, True)


def test_a_run_folder_that_cannot_be_used_is_named(folder: Path) -> None:
    (folder / "taken").write_text("")
    result = mer("run", "--out", "taken")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot ")
    assert "taken" in result.stderr


def test_a_sample_without_a_medium_is_absent_and_no_failure(folder: Path) -> None:
    (folder / "a.txt").write_text("a c")
    text = (folder / "manifest.csv").read_text().replace("label,text", "label,text,video")
    (folder / "clip.mp4").write_bytes(b"")
    (folder / "manifest.csv").write_text(text + "mute,test1,sad,,clip.mp4\n")
    result = mer("run")
    assert result.exit_code == 0, result.output
    row = predictions(folder)["mute"]
    assert row["missing"] == "all few"
    report = json.loads((folder / "runs/default/report.json").read_text())
    assert "1 samples lack every feature" in report["warnings"][0]


def test_a_medium_that_no_sample_gives_is_said_before_anything_is_extracted(folder: Path) -> None:
    text = REGISTRY.replace("fusion:", "  look: {uses: brightness}\nfusion:")
    (folder / "registry.yaml").write_text(text)
    for command in ("check", "run"):
        result = mer(command)
        assert result.exit_code == 1
        assert "manifest.csv: no sample gives video, which look needs" in result.stderr


def test_a_class_smaller_than_the_folds_alone_is_fine_but_not_the_largest(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("folds: 3", "folds: 10"))
    result = mer("run")
    assert result.exit_code == 1
    assert "the largest class, 'sad', has 9 train samples, too few for 10 folds" in result.stderr


def test_an_interrupted_command_says_how_to_go_on(folder: Path) -> None:
    class Interrupting(Letters):
        def load(self, device: str, dtype: str) -> Encode:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mercore_toys.Letters, "load", Interrupting.load)
        result = mer("run")
    assert result.exit_code == 130
    assert "Interrupted: what is done is kept; run it again to go on" in result.stderr
    assert mer("run").exit_code == 0
