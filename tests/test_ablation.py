from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from run_mer import mer, mer_json
from toy_clips import write_mp4

from mercore.ablation import FILE, current
from mercore.components import IntArray
from mercore.machine import Machine
from mercore.metrics import accuracy, bootstrap, waf
from mercore.project import Project
from mercore.significance import holm, paired_bootstrap

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
  louder: {uses: shout, inputs: {text: loud}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 2}}
  all: {uses: letters, inputs: {text: text}}
  cried: {uses: letters, inputs: {text: louder}}
fusion: {uses: centroid, with: {sharpness: 2}}
branches:
  one: few
  both: few + all
  turned: cried + few
folds: 3
"""


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose `few` letters are often wrong, whose others are right."""
    folder = tmp_path_factory.mktemp("extracted")
    (folder / "registry.yaml").write_text(REGISTRY)
    random = np.random.default_rng(0)
    rows = ["id,split,label,text"]
    for number in range(60):
        truth = number % 2
        letter = "ab"[truth ^ (random.random() < 0.3)]
        split = "train" if number < 36 else "test1" if number < 54 else "unlabelled"
        label = "" if split == "unlabelled" else ("sad", "happy")[truth]
        rows.append(f"s{number},{split},{label},{letter} {'de'[truth]}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    files = (folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr")
    Project.open(*files, create=True, machine=Machine("cpu")).extract()
    return folder


@pytest.fixture
def folder(extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in which the commands run."""
    copytree(extracted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for command in ("ABLATE", "EXTRACT", "RUN", "TRAIN"):  # asking for a GPU imports torch
        monkeypatch.setenv(f"MERCORE_{command}_DEVICE", "cpu")
    return tmp_path


def names(about: Any) -> list[str]:
    return ["+".join(row["features"]) for row in about["rows"]]


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "registry.yaml").read_text()
    assert old in text
    (folder / "registry.yaml").write_text(text.replace(old, new))


def decisions(folder: Path, name: str) -> tuple[IntArray, IntArray]:
    """Return labels and decisions of a combination on the training samples."""
    path = folder / f"runs/default/ablation/branches/{name}/probabilities.csv"
    with path.open() as file:
        table = {
            row["id"]: (float(row["sad"]), float(row["happy"])) for row in csv.DictReader(file)
        }
    ids = [f"s{number}" for number in range(36)]
    return np.arange(36) % 2, np.array([table[id] for id in ids]).argmax(axis=1)


def test_every_combination_is_trained_and_the_best_comes_first(folder: Path) -> None:
    about = mer_json("ablate")
    assert set(names(about)) == {
        "few", "all", "cried", "few+all", "few+cried", "all+cried", "few+all+cried",
    }  # fmt: skip
    assert sorted(about["trained"]) == sorted(names(about))
    scores = [row["scores"]["train"]["waf"] for row in about["rows"]]
    assert scores == sorted(scores, reverse=True)
    assert names(about)[0] == "all"  # the fewest features of those that are always right
    written = json.loads((folder / "runs/default" / FILE).read_text())
    assert written == {key: value for key, value in about.items() if key != "trained"}


def test_scores_are_those_of_each_labelled_split(folder: Path) -> None:
    about = mer_json("ablate", "few")
    (row,) = about["rows"]
    assert about["splits"] == list(row["scores"]) == ["train", "test1"]
    labels, decided = decisions(folder, "few")
    assert row["scores"]["train"] == {
        "waf": waf(labels, decided, 2),
        "low": bootstrap(waf, labels, decided, 2)[0],
        "high": bootstrap(waf, labels, decided, 2)[1],
        "accuracy": accuracy(labels, decided, 2),
    }
    assert row["behind"] is None


def test_each_row_is_paired_with_the_first(folder: Path) -> None:
    about = mer_json("ablate")
    labels, best = decisions(folder, names(about)[0])
    found = [
        paired_bootstrap(waf, labels, decisions(folder, name)[1], best, 2)
        for name in names(about)[1:]
    ]
    behind = [row["behind"] for row in about["rows"][1:]]
    assert [row["waf"] for row in behind] == [one.value for one in found]
    assert [(row["low"], row["high"]) for row in behind] == [(one.low, one.high) for one in found]
    assert [row["p_holm"] for row in behind] == holm([one.p for one in found])
    few = names(about).index("few")
    assert behind[few - 1]["p_holm"] < 0.05


def test_what_is_trained_and_unchanged_is_not_trained_again(folder: Path) -> None:
    first = mer_json("ablate", "--size", "1-2")
    assert len(first.pop("trained")) == 6
    again = mer_json("ablate", "--sizes", "1-2")
    assert again.pop("trained") == []
    assert again == first
    assert mer_json("ablate")["trained"] == ["few+all+cried"]
    torn = folder / "runs/default/ablation/branches/few+all/branch.json"
    torn.unlink()
    assert mer_json("ablate")["trained"] == ["few+all"]
    edit(folder, "letters: 2", "letters: 3")
    mer("extract")
    assert sorted(mer_json("ablate")["trained"]) == ["few", "few+all", "few+all+cried", "few+cried"]


def test_branches_of_the_run_are_taken_over_as_they_would_be_trained(folder: Path) -> None:
    mer_json("ablate", "--size", "1-2", "--out", "runs/alone")
    mer_json("train")
    about = mer_json("ablate", "--size", "1-2")
    # Not `turned` either: the order of the features may decide what a fusion learns.
    assert sorted(about["trained"]) == ["all", "all+cried", "cried", "few+cried"]
    own, taken = (folder / f"runs/{run}/ablation/branches/few+all" for run in ("alone", "default"))
    files = sorted(file.name for file in own.iterdir())
    assert files == sorted(file.name for file in taken.iterdir())
    assert len(files) == 8  # 3 folds, 3 means, the table and what it was made from
    for file in files:
        if file != "branch.json":  # which has the seconds
            assert (own / file).read_bytes() == (taken / file).read_bytes()


def test_an_ablation_leaves_the_run_itself_as_it_is(folder: Path) -> None:
    mer_json("run")
    before = {file: file.read_bytes() for file in (folder / "runs/default").glob("*.*")}
    mer_json("ablate")
    assert {file: file.read_bytes() for file in before} == before
    assert mer_json("train")[0]["trained_now"] is False


def test_only_names_the_combinations(folder: Path) -> None:
    about = mer_json("ablate", "--only", "cried + few", "--only", "all", "--only", "few+cried")
    assert names(about) == ["all", "few+cried"]


def test_another_fusion_is_kept_apart(folder: Path) -> None:
    common = mer_json("ablate", "--size", "1")
    assert common["options"] == {"sharpness": 2.0}
    other = mer_json("ablate", "--size", "1", "--fusion", "linear")
    assert (other["fusion"], len(other["trained"])) == ("linear", 3)
    assert mer_json("ablate", "--size", "1")["trained"] == []
    result = mer("ablate", "--fusion", "linaer")
    assert (result.exit_code, "did you mean 'linear'?" in result.stderr) == (1, True)


def test_two_streams_of_one_encoder_are_told_apart_by_what_they_read(folder: Path) -> None:
    arguments = ("ablate", "all", "cried", "--size", "1")
    about = mer_json(*arguments)
    assert about["features"]["all"] == {
        "uses": "letters", "dim": 26, "reads": ["text"], "upstream": ["text"],
    }  # fmt: skip
    assert about["features"]["cried"]["reads"] == ["louder"]
    assert about["features"]["cried"]["upstream"] == ["louder", "loud", "text"]
    rows = [line.split()[:2] for line in mer(*arguments).stdout.splitlines()]
    assert ["all", "text"] in rows
    assert ["cried", "louder"] in rows
    assert "cried: letters, 26 values of louder, made from loud, text" in mer(*arguments).stdout


def test_the_table_is_printed_for_people_and_for_papers(folder: Path) -> None:
    shown = mer("ablate", "few", "all").stdout
    assert "Ablation: runs/default/ablation.json" in shown
    assert "<0.001" in shown
    source = mer("ablate", "few", "all", "--markdown").stdout
    head, _, first, *others = source.splitlines()
    assert head.split("|")[1].strip() == "features"
    assert first.split("|")[1:3] == [" all       ", " text        "]
    assert len(others) == 2
    paper = mer("ablate", "few", "all", "--latex").stdout
    assert paper.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\nfeatures & reads & WAF (CV) &")
    assert "\nall & text & 1.0000 (1.000 to 1.000) & 1.0000 &  &  & 1.0000 \\\\\n" in paper
    assert "few + all & text + text & " in paper


def test_wrong_usage_and_impossible_wishes_are_told_apart(folder: Path) -> None:
    for wrong in (("few", "--only", "all"), ("--only", "all", "--size", "1"), ("--size", "3-1")):
        assert mer("ablate", *wrong).exit_code == 2, wrong
    assert "expected a number such as 2" in mer("ablate", "--size", "0").stderr
    result = mer("ablate", "--size", "4")
    assert result.exit_code == 1
    assert "4 features at once, but there are 3: few, all, cried" in result.stderr
    assert "did you mean 'cried'" in mer("ablate", "--only", "few + crid").stderr


def test_features_without_the_frames_that_a_fusion_reads_are_named(folder: Path) -> None:
    edit(folder, "{uses: centroid, with: {sharpness: 2}}", "{uses: attention, with: {frames: 2}}")
    edit(folder, "branches:\n  one: few\n  both: few + all\n  turned: cried + few\n", "")
    edit(folder, "all: {", "all: {frames: true, ")
    result = mer("ablate")
    assert result.exit_code == 1
    assert "fusion 'attention' reads the frames of few, cried, of which vectors" in result.stderr


def test_a_fusion_that_leaves_out_what_is_missing_takes_features_no_sample_has_at_once(
    folder: Path,
) -> None:
    options = "{mask: true, epochs: 1, hidden: 4}"
    edit(folder, "{uses: centroid, with: {sharpness: 2}}", f"{{uses: attention, with: {options}}}")
    edit(folder, "features:\n", "features:\n  look: {uses: brightness}\n")
    write_mp4(folder / "clip.mp4", [(200, 40, 40)] * 2)
    rows = [f"v{i},train,{('sad', 'happy')[i % 2]},,clip.mp4" for i in range(6)]
    text = (folder / "manifest.csv").read_text().replace("label,text", "label,text,video")
    (folder / "manifest.csv").write_text("\n".join([text.strip(), *rows, ""]))
    assert mer("extract").exit_code == 0
    result = mer("ablate", "--only", "look+few", "--fusion", "centroid")
    assert (result.exit_code, "features of look + few" in result.stderr) == (1, True)
    (row,) = mer_json("ablate", "--only", "look+few")["rows"]
    assert row["filled"] == 66


def test_a_feature_that_is_not_extracted_is_named(folder: Path) -> None:
    edit(folder, "letters: 2", "letters: 4")
    result = mer("ablate")
    assert result.exit_code == 1
    assert "feature 'few' is not extracted yet; run `mer extract`" in result.stderr


def test_what_no_sample_has_at_once_is_said_before_anything_is_trained(folder: Path) -> None:
    edit(folder, "features:\n", "features:\n  look: {uses: brightness}\n")
    text = (folder / "manifest.csv").read_text().replace("label,text", "label,text,video")
    (folder / "blank.mp4").touch()
    (folder / "manifest.csv").write_text(text + "x,train,sad,,blank.mp4\n")
    assert mer("extract").exit_code == 3
    result = mer("ablate", "--size", "1-2")
    assert result.exit_code == 1
    assert "no training sample has all features of look, look + few, look + all," in result.stderr
    assert not (folder / "runs/default/ablation").exists()
    assert len(mer_json("ablate", "few", "all")["rows"]) == 3


def test_a_registry_without_branches_can_be_ablated(folder: Path) -> None:
    edit(folder, "branches:\n  one: few\n  both: few + all\n  turned: cried + few\n", "")
    assert len(mer_json("ablate")["rows"]) == 7
    edit(folder, "folds: 3", "folds: 30")
    result = mer("ablate")
    assert (result.exit_code, "too few for 30 folds" in result.stderr) == (1, True)


def test_synthetic_data_are_announced(folder: Path) -> None:
    lines = (folder / "manifest.csv").read_text().splitlines()
    rows = [f"{line},true" for line in lines[1:]]
    (folder / "manifest.csv").write_text("\n".join([f"{lines[0]},synthetic", *rows, ""]))
    assert "Synthetic data: these numbers show" in mer("ablate").stdout
    assert mer_json("ablate")["synthetic"] is True


def test_the_report_shows_the_ablation_while_it_is_current(folder: Path) -> None:
    assert mer_json("run")["report"]["ablation"] is None
    about = mer_json("ablate", "--size", "1", "--fusion", "linear")
    report = mer_json("report")
    assert report["ablation"] == {key: about[key] for key in about if key != "trained"}
    assert report["warnings"] == []
    assert 'id="ablation"' in (folder / "runs/default/report.html").read_text()
    edit(folder, "folds: 3", "folds: 4")
    stale = mer_json("run")["report"]
    assert stale["ablation"] is None
    assert "ablation.json is left out: it is not of the features" in stale["warnings"][0]
    mer_json("ablate", "--size", "1")
    assert len(mer_json("report")["ablation"]["rows"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("few: {", "last: {uses: letters, inputs: {text: loud}}\n  few: {", True),
        ("sharpness: 2", "sharpness: 3", False),
        ("letters: 2", "letters: 3", False),
        ("seed: 1", "seed: 2", False),
        ("cried", "wept", False),
    ],
)
def test_an_ablation_is_current_until_what_decides_it_changes(
    folder: Path, old: str, new: str, kept: bool
) -> None:
    edit(folder, "folds: 3", "folds: 3\nseed: 1")
    about = mer_json("ablate", "--size", "1")
    edit(folder, old, new)
    found = current(Project.open())
    assert found == ({key: about[key] for key in about if key != "trained"} if kept else None)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"format": 99}'])
def test_a_file_that_is_no_ablation_counts_as_none(folder: Path, content: str) -> None:
    file = folder / "runs/default" / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    assert current(Project.open()) is None


def test_an_ablation_by_a_fusion_that_is_gone_is_not_current(folder: Path) -> None:
    mer_json("ablate", "--only", "all")
    file = folder / "runs/default" / FILE
    file.write_text(file.read_text().replace('"centroid"', '"uninstalled"'))
    assert current(Project.open()) is None
