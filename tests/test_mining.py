from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from run_mer import mer, mer_json
from safetensors.numpy import load_file

from mercore.components import Votes
from mercore.mining import PseudoLabels, agreed, divide, mine
from mercore.registry import Mining

REGISTRY = """\
classes: [sad, happy]
features:
  six: {uses: letters, inputs: {text: text}, with: {letters: 6}}
  nine: {uses: letters, inputs: {text: text}, with: {letters: 9}}
  twelve: {uses: letters, inputs: {text: text}, with: {letters: 12}}
fusion: centroid
branches:
  b: six
  a: nine
  d: twelve
  c: six + nine + twelve
folds: 3
mining: {rounds: 3, agree: 4}
"""
LETTERS = "abcdefghijkl"


def votes(*ballots: str, sure: float = 0.8, classes: int = 3) -> Votes:
    """Return the votes of branches a, b, ...: a text has the label of each sample in turn."""
    labels = np.array([[int(label) for label in branch] for branch in ballots])
    table = np.full((*labels.shape, classes), (1 - sure) / (classes - 1), np.float32)
    np.put_along_axis(table, labels[:, :, None], np.float32(sure), axis=2)
    return Votes(tuple("abcdefgh"[: len(ballots)]), table, np.zeros(len(ballots), np.float32))


def ids(count: int) -> list[str]:
    return [f"s{number:03d}" for number in range(count)]


@pytest.mark.parametrize(
    ("ballots", "agree", "label"),
    [
        ("0000", 3, 0),
        ("0002", 3, 0),
        ("2010", 3, -1),
        ("2010", 2, 0),
        ("1010", 2, -1),  # two labels have two branches each
        ("1111", 4, 1),
        ("1110", 4, -1),
        ("0", 1, 0),
    ],
)
def test_a_label_is_accepted_when_enough_branches_give_it(
    ballots: str, agree: int, label: int
) -> None:
    assert agreed(votes(*ballots), agree)[0].tolist() == [label]


def test_confidence_is_that_of_the_branches_that_agree() -> None:
    given = votes("1", "1", "0")
    given.probabilities[0, 0] = [0.3, 0.6, 0.1]
    given.probabilities[1, 0] = [0.0, 0.9, 0.1]
    assert agreed(given, 2)[1].tolist() == pytest.approx([0.75])


@pytest.mark.parametrize("branches", [1, 3, 4])
def test_shares_are_even_and_of_each_class(branches: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 101)
    accepted = random.random(101) < 0.7
    names = "dcba"[:branches]
    learners = divide(accepted, labels, ids(101), names, random)
    assert ((learners >= 0) == accepted).all()
    for rows in (accepted, *(accepted & (labels == label) for label in range(3))):
        sizes = np.bincount(learners[rows], minlength=branches)
        assert sizes.max() - sizes.min() <= 1


def test_neither_the_order_of_samples_nor_of_branches_decides_the_shares() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 50)
    accepted = np.ones(50, np.bool_)
    names, samples = ["one", "two", "three"], ids(50)
    learners = divide(accepted, labels, samples, names, np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(50)
    moved = divide(
        accepted, labels[order], [samples[i] for i in order], names[::-1], np.random.default_rng(1)
    )
    first = dict(zip(samples, (names[i] for i in learners), strict=True))
    again = dict(zip((samples[i] for i in order), (names[::-1][i] for i in moved), strict=True))
    assert first == again


def mined(
    given: Votes, unlabelled: list[bool], before: PseudoLabels | None = None, **options: Any
) -> PseudoLabels | None:
    count = len(unlabelled)
    return mine(
        given,
        ids(count),
        np.array(unlabelled),
        before or PseudoLabels.none(count),
        Mining(agree=2, **options),
        seed=0,
    )


def test_only_unlabelled_samples_are_mined_and_each_once() -> None:
    first = mined(votes("012", "010"), [True, True, True])
    assert first is not None
    assert first.labels.tolist() == [0, 1, -1]
    assert first.rounds.tolist() == [1, 1, 0]
    second = mined(votes("112", "112"), [True, True, True], first)
    assert second is not None
    assert second.labels.tolist() == [0, 1, 2]  # what was accepted stays as it was
    assert second.rounds.tolist() == [1, 1, 2]
    assert second.learners[:2].tolist() == first.learners[:2].tolist()
    assert mined(votes("112", "112"), [True, True, True], second) is None
    assert mined(votes("012", "012"), [False, False, False]) is None


def test_the_shares_of_the_branches_are_what_was_accepted() -> None:
    pseudo = mined(votes("012012", "012012"), [True] * 6)
    assert pseudo is not None
    shares = np.array([pseudo.share(0), pseudo.share(1)])
    assert shares.max(axis=0).tolist() == [0, 1, 2, 0, 1, 2]
    assert shares.min(axis=0).tolist() == [-1] * 6


def test_a_label_may_have_to_be_likely() -> None:
    assert mined(votes("0", "0", sure=0.6), [True], confidence=0.7) is None
    assert mined(votes("0", "0", sure=0.8), [True], confidence=0.7) is not None


def test_a_class_may_be_capped_to_its_most_confident_samples() -> None:
    given = votes("00001", "00001")
    given.probabilities[:, :4, 0] = [0.7, 0.9, 0.8, 0.6]
    pseudo = mined(given, [True] * 5, cap=2)
    assert pseudo is not None
    assert pseudo.labels.tolist() == [-1, 0, 0, -1, 1]


def text(label: int, random: Generator) -> str:
    """Return a word whose letters are a little those of its class."""
    slope = np.linspace(-1, 1, len(LETTERS)) * (0.25 if label else -0.25)
    share = np.exp(slope) / np.exp(slope).sum()
    return "".join(random.choice(list(LETTERS), 40, p=share))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of few labelled samples and many without a label, whose letters tell the class."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(
    folder: Path, *, truth: bool = False, swapped: bool = False, seed: int = 3
) -> None:
    """Write 12 training, 300 unlabelled and 200 test samples.

    With `truth` the unlabelled have labels too; `swapped`: those of the test are wrong.
    """
    random = np.random.default_rng(seed)
    rows = ["id,split,label,text"]
    for number in range(512):
        split = "train" if number < 12 else "unlabelled" if number < 312 else "test"
        label = number % 2
        shown = ("sad", "happy")[label ^ (swapped and split == "test")]
        word = text(label, random)
        rows.append(
            f"s{number:03d},{split},{shown if truth or split != 'unlabelled' else ''},{word}"
        )
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def branch_files(folder: Path) -> dict[str, int]:
    run = folder / "runs/default"
    return {str(p.relative_to(run)): p.stat().st_mtime_ns for p in run.rglob("branch.json")}


def test_mining_improves_the_branches_where_the_features_carry_signal(folder: Path) -> None:
    gains, right = [], []
    for seed in range(6):
        write_manifest(folder, seed=seed)
        mer_json("extract")
        rounds = mer_json("mine")["rounds"]
        gains.append(rounds[-1]["waf"]["test"] - rounds[0]["waf"]["test"])
        rows = table(folder / "runs/default/mining/mined.csv")
        right += [row["label"] == ("sad", "happy")[int(id[1:]) % 2] for id, row in rows.items()]
    assert np.mean(gains) > 0.01
    assert len(right) > 6 * 150
    assert np.mean(right) > 0.7  # giving one class to all would be right in half of them


def test_each_round_gives_every_branch_an_even_share_of_the_unlabelled(folder: Path) -> None:
    mer_json("run")
    rows = table(folder / "runs/default/mining/mined.csv")
    assert {int(id[1:]) for id in rows} <= set(range(12, 312))
    for number in ("1", "2"):
        sizes = Counter(row["branch"] for row in rows.values() if row["round"] == number)
        assert max(sizes.values()) - min(sizes.values()) <= 1


def test_labels_of_the_test_and_of_the_unlabelled_samples_are_not_looked_at(folder: Path) -> None:
    mer_json("run")
    first = table(folder / "runs/default/mining/mined.csv")
    decided = table(folder / "runs/default/predictions.csv")
    write_manifest(folder, truth=True, swapped=True)
    rounds = mer_json("run", "--out", "runs/other")["report"]["mining"]
    assert table(folder / "runs/other/mining/mined.csv") == first
    again = table(folder / "runs/other/predictions.csv")
    assert {id: row["predicted"] for id, row in again.items()} == {
        id: row["predicted"] for id, row in decided.items()
    }
    right = [row["label"] == ("sad", "happy")[int(id[1:]) % 2] for id, row in first.items()]
    assert rounds[-1]["right"] == pytest.approx(np.mean(right))


def test_pseudo_labels_are_trained_on_and_never_validated_on(folder: Path) -> None:
    mer_json("run")
    folds = table(folder / "runs/default/folds.csv")
    assert {int(id[1:]) for id in folds} == set(range(12))
    fold = (folder / "runs/default/branches/a/fold0.safetensors").read_bytes()
    assert (folder / "runs/default/mining/round1/branches/a/fold0.safetensors").read_bytes() != fold


def test_what_is_mined_is_not_mined_again_and_goes_on_where_it_stopped(folder: Path) -> None:
    mer_json("run")
    before = branch_files(folder)
    mined = (folder / "runs/default/mining/mined.csv").read_bytes()
    mer_json("run")
    assert branch_files(folder) == before
    torn = "mining/round2/branches/a/branch.json"
    (folder / "runs/default" / torn).unlink()
    assert mer("report").exit_code == 1
    mer_json("mine")
    changed = {name for name, when in branch_files(folder).items() if before[name] != when}
    assert changed == {torn}
    assert (folder / "runs/default/mining/mined.csv").read_bytes() == mined


def test_another_option_mines_again_from_the_same_branches(folder: Path) -> None:
    mer_json("run")
    before = branch_files(folder)
    text = REGISTRY.replace("agree: 4", "agree: 4, cap: 10")
    (folder / "registry.yaml").write_text(text)
    assert "run `mer mine`" in mer("report").stderr
    rounds = mer_json("mine")["rounds"]
    assert all(max(row["accepted"].values()) <= 10 for row in rounds)
    after = branch_files(folder)
    assert all(after[name] == before[name] for name in before if not name.startswith("mining"))


def test_predictions_are_those_of_the_last_round(folder: Path) -> None:
    mer_json("run")
    decided = table(folder / "runs/default/predictions.csv")
    word = (folder / "manifest.csv").read_text().splitlines()[-1].split(",")[-1]
    (folder / "new.txt").write_text(word)
    (clip,) = mer_json("predict", "new.txt")
    last = decided["s511"]
    assert clip["label"] == last["predicted"]
    assert clip["probabilities"]["sad"] == pytest.approx(float(last["sad"]), abs=1e-5)
    text = REGISTRY.replace("folds: 3", "folds: 4")
    (folder / "registry.yaml").write_text(text)
    mer_json("train")
    assert "run `mer mine`" in mer("predict", "new.txt").stderr


def test_the_report_has_a_row_a_round(folder: Path) -> None:
    result = mer("run")
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "runs/default/report.json").read_text())
    assert [row["round"] for row in report["mining"]] == list(range(len(report["mining"])))
    assert report["mining"][-1]["waf"]["test"] == report["ensemble"]["scores"]["test"]["waf"]
    page = (folder / "runs/default/report.html").read_text()
    assert "WAF of the ensemble after each round" in page
    shown = mer("mine")
    assert shown.exit_code == 0
    assert "Pseudo-labels: runs/default/mining/mined.csv" in shown.stdout


def test_a_warm_round_goes_on_from_the_weights_before(folder: Path) -> None:
    still = "{uses: attention, with: {hidden: 4, epochs: 3, lr: 1.0e-9, weight_decay: 0}}"
    text = REGISTRY.replace("fusion: centroid", f"fusion: {still}").replace("agree: 4", "agree: 2")
    (folder / "registry.yaml").write_text(text.replace("rounds: 3", "rounds: 2, warm: 1"))
    mer_json("run")
    run = folder / "runs/default"
    first, second = (
        load_file(run / part / "branches/a/fold0.safetensors") for part in ("", "mining/round1")
    )
    assert all(np.abs(first[name] - second[name]).max() < 1e-4 for name in first)
    before = branch_files(folder)
    mer_json("run")
    assert branch_files(folder) == before
    (folder / "registry.yaml").write_text(text.replace("rounds: 3", "rounds: 2"))
    mer_json("run")
    anew = load_file(run / "mining/round1/branches/a/fold0.safetensors")
    assert np.abs(anew["mean.nine"] - first["mean.nine"]).max() > 1e-3


def test_a_fusion_that_cannot_go_on_is_named(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("agree: 4", "agree: 4, warm: 3"))
    result = mer("check")
    assert result.exit_code == 1
    assert "mining.warm: fusion 'centroid' of branch 'b' cannot go on" in result.stderr


def test_nothing_agreed_on_is_said(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("agree: 4", "agree: 4, confidence: 1"))
    result = mer("run")
    assert "nothing was mined" in result.stdout
    assert mer("predict", "manifest.csv").exit_code == 0


def test_mining_must_be_declared(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.partition("mining")[0])
    mer_json("extract")
    result = mer("mine")
    assert result.exit_code == 1
    assert "declares no mining" in result.stderr


def test_a_split_of_no_sample_is_said(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("{rounds", "{split: unlabeled, rounds"))
    mer_json("extract")
    result = mer("mine")
    assert result.exit_code == 1
    assert "no sample is in the split 'unlabeled'" in result.stderr
    assert "did you mean 'unlabelled'" in result.stderr
    assert "no sample is in the split 'unlabeled'" in mer("run").stdout
