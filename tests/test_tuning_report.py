"""`mer report` of a training: what its page shows, of whole, interrupted and damaged folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mercore.cli import main
from mercore.errors import RunError
from mercore.tuning.folder import TuningFolder
from mercore.tuning.report import write_report

EVIL = "</td><script>alert('x')</script>"
CLASSES = ("sad", "happy", EVIL)


def training(path: Path, *, ended: bool = True, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write the folder of a training of four steps."""
    folder = TuningFolder(path)
    folder.begin({"aim": "tune", "options": {"lr": 0.1, "note": EVIL}, "classes": list(classes)})
    history: list[dict[str, Any]] = [
        {"step": step, "epoch": step / 2, "loss": 2.0 / step, "learning_rate": 1e-5 * step}
        for step in (1, 2, 3, 4)
    ]
    scores = {"eval_waf": 0.5, "eval_accuracy": 0.75} if classes else {}
    folder.save_log([*history, {"step": 2, "eval_loss": float("nan")},
                     {"step": 4, "eval_loss": 1.5, **scores}])  # fmt: skip
    if not ended:
        return path
    about: dict[str, Any] = {"steps": 4, "loss": 0.25, "trained": 1234, "failed": {EVIL: EVIL}}
    if classes:
        labels, logits = np.array([0, 1, 1, -1]), np.eye(4, 3, dtype=np.float32)
        about |= folder.save_predictions([EVIL, "b", "c", "d"], classes, labels, logits)
    folder.finish(about)
    return path


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments], catch_exceptions=False)


def test_a_training_has_its_curves_its_scores_and_its_confusion(tmp_path: Path) -> None:
    content, page = write_report(training(tmp_path / "face"))
    assert json.loads((tmp_path / "face/report.json").read_text()) == content
    (one,) = json.loads(json.dumps(content))["trainings"]
    assert [row["loss"] for row in one["log"]] == pytest.approx([2, 1, 2 / 3, 0.5])
    assert [row["eval_loss"] for row in one["log"]] == [None, None, None, 1.5]
    assert one["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert one["waf"]["low"] <= one["waf"]["waf"] <= one["waf"]["high"]
    text = page.read_text()
    assert text.count("<svg") == 3  # losses, scores, learning rate
    assert "Not finished" not in text
    assert ">1234<" in text  # the parameters that were trained


def test_nothing_of_a_training_runs_as_a_script(tmp_path: Path) -> None:
    _, page = write_report(training(tmp_path))
    text = page.read_text()
    assert text.count("<script>") == 1  # its own
    assert "&lt;script&gt;alert" in text


def test_a_training_without_labels_has_its_losses_alone(tmp_path: Path) -> None:
    result = mer(str(training(tmp_path / "mae", classes=())))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1].split() == ["mae", "4", "0.2500"]
    text = (tmp_path / "mae/report.html").read_text()
    assert text.count("<svg") == 2
    assert "Confusion" not in text


def test_an_interrupted_training_shows_what_is_there(tmp_path: Path) -> None:
    result = mer(str(training(tmp_path / "face", ended=False)))
    assert "4, not finished" in result.output
    assert "Not finished" in (tmp_path / "face/report.html").read_text()
    (tmp_path / "face/log.csv").unlink()
    result = mer(str(tmp_path / "face"), "--json")
    assert json.loads(result.stdout)["trainings"][0]["log"] == []
    assert "there is none yet" in (tmp_path / "face/report.html").read_text()


def test_a_training_with_scores_of_its_own_shows_them_as_they_are(tmp_path: Path) -> None:
    folder = TuningFolder(training(tmp_path / "asr", ended=False))
    folder.finish({"error_rate": 0.125, "rounds": [{"round": 1}], "before": {"error_rate": 0.5}})
    assert mer(str(folder.path)).output.splitlines()[1].split() == ["asr"]
    text = (folder.path / "report.html").read_text()
    assert ">0.125<" in text
    assert "error_rate: 0.5<" in text


def test_trainings_in_one_folder_are_put_side_by_side(tmp_path: Path) -> None:
    for name in ("lr=0.1", "lr=0.2"):
        training(tmp_path / name)
    TuningFolder(tmp_path / "lr=0.1").save_probe({"waf": 0.25, "low": 0.125, "high": 0.5})
    result = mer(str(tmp_path), "--markdown")
    rows = [[cell.strip() for cell in line.split("|")] for line in result.output.splitlines()]
    assert [row[1] for row in rows[2:]] == ["lr=0.1", "lr=0.2"]
    assert [row[-2] for row in rows[2:]] == ["0.2500", ""]
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == 6
    assert "Side by side" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: is no folder; expected one of `mer tune` or `mer pretrain`"),
        (".", r"holds no training .*of `mer train` it is `mer report --out "),
        ("tuning.json", r"tuning\.json: is damaged"),
        ("log.csv", "one of its files is missing or damaged"),
        ("predictions.csv", "one of its files is missing or damaged"),
    ],
)
def test_a_folder_that_is_none_of_a_training_is_said(
    name: str, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / name if name == "nowhere" else tmp_path
    if name.endswith(("json", "csv")):
        training(tmp_path)
        (tmp_path / name).write_text("step,loss\n1,x\n")
    with pytest.raises(RunError, match=message):
        write_report(folder)


def test_what_is_no_number_is_null_in_the_files_of_a_training(tmp_path: Path) -> None:
    written = TuningFolder(tmp_path).finish({"loss": float("nan"), "more": {"high": float("inf")}})
    assert written == {"loss": None, "more": {"high": None}}
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == written
