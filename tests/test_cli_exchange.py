from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result
from mertools_files import corpus, names, sequences, vectors, write_feature, write_labels
from run_mer import mer, mer_json

from mercore.cli.exchange import submit
from mercore.submission import FORMATS

IDS = names(30)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two features, 18 samples to train on, 6 to test, 6 without a label."""
    monkeypatch.chdir(tmp_path)
    for command in ("TRAIN", "PREDICT"):  # asking for a GPU imports torch
        monkeypatch.setenv(f"MERCORE_{command}_DEVICE", "cpu")
    write_feature(tmp_path / "features/hubert-UTT", vectors(IDS, 8))
    write_feature(tmp_path / "features/clip-FRA", sequences(IDS, 3))
    write_labels(tmp_path / "label.npz", train=corpus(IDS[:18]), test1=corpus(IDS[18:24]))
    return tmp_path


def take(*arguments: str) -> Result:
    """Import what the folder holds."""
    common = ("--labels", "label.npz", "--trust-pickles", "--fusion", "centroid")
    return mer("import", "mertools", "features", *common, *arguments)


def test_from_feature_folders_to_an_answer(folder: Path) -> None:
    result = take()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "clip: vectors and sequences of 30 samples, dim 3, 30 new",
        "hubert: vectors of 30 samples, dim 8, 30 new",
        "Manifest: manifest.csv (18 train, 6 test1, 6 unlabelled)",
        "Registry: registry.yaml; next: mer train",
    ]
    text = (folder / "registry.yaml").read_text().replace("clip + ", "")
    (folder / "registry.yaml").write_text(f"{text}folds: 2\n")
    assert mer("check").exit_code == 0
    assert [row["extracted"] for row in mer_json("extract")] == [0, 0]
    assert [row["done"] for row in mer_json("status")["current"]] == [30, 30]
    assert mer("train").exit_code == 0
    (folder / "list.csv").write_text("".join(f"{name}\n" for name in ("name", IDS[29], IDS[20])))
    about = mer_json("submit", "--format", "mer2025", "--candidates", "list.csv")
    assert (about["answer"], about["names"]) == ("submission.csv", 2)
    with (folder / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "discrete"], [IDS[29], "surprise"], [IDS[20], "happy"]]
    result = mer("submit", "--format", "mer2024", "--split", "test1", "--out-file", "a.csv")
    assert result.stdout.splitlines()[-1] == "Answer: a.csv"
    assert "6 names: neutral 1, angry 1" in result.stdout
    result = mer("predict", "--store", "mer.zarr", "manifest.csv")
    assert f"{IDS[20]}: happy" in result.stdout


def test_what_is_there_is_not_written_over(folder: Path) -> None:
    assert take().exit_code == 0
    again = take()
    assert again.exit_code == 1
    assert "Error: manifest.csv and registry.yaml: there already" in again.stderr
    assert "0 new" in take("--overwrite").stdout


def test_a_sample_that_fails_is_said_and_ends_in_status_3(folder: Path) -> None:
    for id in IDS[:5]:
        (folder / f"features/hubert-UTT/{id}.npy").unlink()
    result = take()
    assert result.exit_code == 3
    assert "hubert: vectors of 30 samples, dim 8, 30 new, 5 failed" in result.stdout
    reason = f"{IDS[0]}, {IDS[1]}, {IDS[2]} and 2 more failed: hubert-UTT: no file of this sample"
    assert f"hubert: {reason}" in result.stdout
    assert f"hubert: {reason}" in mer("status").stdout
    assert mer("extract").exit_code == 3
    result = mer("export", "mertools", "out")
    assert result.exit_code == 3
    assert "hubert: 25 samples; 5 have no values and no file" in result.stdout


def test_pickles_are_read_only_where_they_are_trusted(folder: Path) -> None:
    result = mer("import", "mertools", "features", "--labels", "label.npz")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: label.npz: train_corpus.npy, test1_corpus.npy are pick")
    assert not (folder / "mer.zarr").exists()


def test_an_import_and_an_export_can_be_read_by_a_program(folder: Path) -> None:
    result = take("--json")
    about = json.loads(result.stdout)
    assert [feature["name"] for feature in about["features"]] == ["clip", "hubert"]
    assert about["splits"] == {"train": 18, "test1": 6, "unlabelled": 6}
    about = mer_json("export", "mertools", "out", "--feature", "hubert")
    assert about["features"] == [
        {"name": "hubert", "folders": ["out/features/hubert-UTT"], "samples": 30, "failed": 0}
    ]
    assert about["labelled"] == {"train": 18, "test1": 6}
    assert about["transcripts"] is None
    assert np.load(folder / f"out/features/hubert-UTT/{IDS[0]}.npy").shape == (8,)


def test_each_format_that_is_known_can_be_asked_for() -> None:
    (option,) = (each for each in submit.params if each.name == "challenge")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(FORMATS)


def test_wrong_usage_is_status_2(folder: Path) -> None:
    both = ("--split", "test1", "--candidates", "list.csv")
    assert mer("submit", "--format", "mer2025", *both).exit_code == 2
    assert mer("submit", "--format", "mer2020").exit_code == 2
    assert mer("import", "mertools", "features").exit_code == 2
