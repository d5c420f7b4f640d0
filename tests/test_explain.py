from __future__ import annotations

import json
import os
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from run_mer import mer, mer_json

from mercore_toys import Shout

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
  louder: {uses: shout, inputs: {text: loud}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}}
  cried: {uses: letters, inputs: {text: louder}}
  nested: {uses: both, inputs: {text: loud}, with: {first: {uses: shout, with: {mark: '?'}}}}
fusion: {uses: centroid, with: {sharpness: 2}}
branches:
  one: few
  few: few + cried
folds: 3
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run; one sample failed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "registry.yaml").write_text(REGISTRY)
    rows = ["id,split,label,text"]
    for number in range(24):
        label, letter = (("sad", "a"), ("happy", "b"))[number % 2]
        rows.append(f"s{number},{'train' if number < 18 else 'test'},{label},{letter} c")
    rows.append("odd,test,sad,refuse")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert mer("run", "--device", "cpu").exit_code == 3
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project for one test."""
    copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explain(*arguments: str) -> Any:
    """Return what is said of a name that has one meaning."""
    (about,) = mer_json("explain", *arguments)
    return about


def change(folder: Path, old: str, new: str) -> None:
    assert old in REGISTRY
    (folder / "registry.yaml").write_text(REGISTRY.replace(old, new))


def test_a_feature_is_followed_down_to_the_columns(folder: Path) -> None:
    cried = explain("cried")
    assert cried["uses"] == "letters"
    assert cried["distribution"] == "mercore-toys 0.1.0"
    assert cried["line"] == 7
    louder = cried["inputs"]["text"]["from"]
    loud = louder["inputs"]["text"]["from"]
    assert (louder["name"], loud["name"]) == ("louder", "loud")
    assert loud["inputs"]["text"] == {
        "stream": "text", "needs": "Words()", "column": "text", "samples": 25
    }  # fmt: skip


def test_options_are_told_from_defaults(folder: Path) -> None:
    assert explain("one")["options"] == {"sharpness": {"value": 2.0, "by": "registry"}}
    assert explain("cried")["options"] == {"letters": {"value": 26, "by": "default"}}
    assert explain("nested")["options"] == {
        "first": {"value": {"uses": "shout", "with": {"mark": "?"}}, "by": "registry"},
        "then": {"value": None, "by": "default"},
    }


def test_options_that_a_search_found_are_told_from_those_of_the_registry(folder: Path) -> None:
    change(folder, "{uses: centroid, with: {sharpness: 2}}", "linear")
    mer_json("train", "--search", "4", "--device", "cpu")
    best = json.loads((folder / "runs/default/search.json").read_text())["one"]["best"]["options"]
    options = explain("one")["options"]
    assert {name for name, option in options.items() if option["by"] == "search"} == set(best)
    assert {name: options[name]["value"] for name in best} == best


def test_the_store_says_what_there_is_and_what_it_took(folder: Path) -> None:
    loud = explain("loud")
    (stored,) = loud["store"]
    assert stored["path"] == f"streams/loud@{loud['fingerprint']}"
    assert (stored["done"], stored["failed"], stored["missing"]) == (24, 1, 0)
    assert stored["bytes"] > 0
    assert loud["rate"]["samples"] == 25
    assert loud["used_by"] == {
        "streams": ["louder"], "features": ["nested"], "branches": ["few"]
    }  # fmt: skip
    with (folder / "manifest.csv").open("a") as file:
        file.write("new,test,sad,a\n")
    assert explain("loud")["store"][0]["missing"] == 1


def test_what_a_change_left_behind_is_explained(folder: Path) -> None:
    change(folder, "loud: {uses: shout", "loud: {with: {mark: '?'}, uses: shout")
    (old,) = explain("cried")["others"]
    assert old["samples"] == 25
    assert old["why"] == [{"what": "stream loud: with.mark", "before": "!", "after": "?"}]
    assert explain("cried")["store"] == []


def test_an_input_that_was_changed_is_named(folder: Path) -> None:
    change(folder, "inputs: {text: louder}", "inputs: {text: loud}")
    (old,) = explain("cried")["others"]
    assert old["why"] == [
        {"what": "feature cried: inputs.text", "before": "louder", "after": "loud"}
    ]


def test_a_feature_and_a_branch_may_share_a_name(folder: Path) -> None:
    assert [about["kind"] for about in mer_json("explain", "few")] == ["feature", "branch"]


def test_a_branch_says_whether_it_is_up_to_date(folder: Path) -> None:
    run = explain("one")["run"]
    assert (run["state"], run["why"]) == ("up to date", [])
    kept = json.loads((folder / "runs/default/branches/one/branch.json").read_text())
    assert run["waf"] == kept["waf"]
    assert run["filled"] == 1
    assert explain("one", "--out", "runs/none")["run"]["state"] == "not trained"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("letters: 3", "letters: 4", "feature few: with.letters"),
        (
            "few: {uses: letters, inputs: {text: text}",
            "few: {uses: letters, inputs: {text: loud}",
            "feature few: inputs.text",
        ),
        ("sharpness: 2", "sharpness: 3", "with.sharpness"),
        ("uses: centroid, with: {sharpness: 2}", "uses: linear", "uses"),
        ("one: few", "one: cried", "features"),
        ("folds: 3", "folds: 4", "folds"),
        ("folds: 3", "folds: 3\nseed: 2", "seed"),
        ("[sad, happy]", "[happy, sad]", "classes"),
    ],
)
def test_a_stale_branch_says_why(folder: Path, old: str, new: str, what: str) -> None:
    change(folder, old, new)
    run = explain("one")["run"]
    assert run["state"] == "stale"
    assert [reason["what"] for reason in run["why"]] == [what]


def test_a_branch_is_stale_when_its_samples_change(folder: Path) -> None:
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("s0,train,sad", "s0,train,happy"))
    assert explain("one")["run"]["why"] == [
        {"what": "training samples", "before": 18, "after": 18},
        {"what": "training samples with the same label", "before": 18, "after": 17},
    ]
    (folder / "manifest.csv").write_text(text.replace("s23,test", "s23,test2"))
    assert [reason["what"] for reason in explain("one")["run"]["why"]] == ["samples"]
    assert "stale: other samples: their splits" in mer("explain", "one").stdout


def test_other_versions_than_those_that_trained_a_branch_are_named(folder: Path) -> None:
    file = folder / "runs/default/branches/one/branch.json"
    shown = mer("explain", "one").stdout
    assert "trained with mercore " in shown
    assert "installed since" not in shown
    trained = json.loads(file.read_text())
    trained["versions"]["mercore-toys"] = "0.0.9"
    file.write_text(json.dumps(trained))
    assert "installed since: mercore-toys 0.1.0" in mer("explain", "one").stdout


def test_a_new_revision_makes_a_branch_stale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shout, "revision", 2)
    (_, few) = mer_json("explain", "few")
    assert few["run"]["state"] == "stale"
    reason = {"what": "stream loud: revision", "before": 1, "after": 2}
    assert reason in few["run"]["why"]


def test_the_ensemble_says_what_votes_and_what_came_of_it(folder: Path) -> None:
    about = explain("ensemble")
    assert about["uses"] == "rank_mode"
    assert about["line"] is None  # the default
    assert [(row["name"], row["state"]) for row in about["branches"]] == [
        ("one", "up to date"), ("few", "up to date")
    ]  # fmt: skip
    report = json.loads((folder / "runs/default/report.json").read_text())
    assert about["run"]["scores"]["test"] == report["ensemble"]["scores"]["test"]["waf"]
    assert about["run"]["predictions"] == "runs/default/predictions.csv"


def test_it_works_before_anything_is_there(folder: Path) -> None:
    for name in ("mer.zarr", "runs"):
        rmtree(folder / name)
    (folder / "manifest.csv").unlink()
    (feature, branch) = mer_json("explain", "few")
    assert feature["store"] is None
    assert feature["inputs"]["text"]["samples"] is None
    assert branch["run"]["state"] == "not trained"
    shown = mer("explain", "few").stdout
    assert "no manifest.csv here" in shown
    assert "no store at mer.zarr: nothing is extracted yet" in shown
    assert {path.name for path in folder.iterdir()} == {"registry.yaml"}


def test_without_a_store_a_branch_may_still_be_seen_to_be_stale(folder: Path) -> None:
    rmtree(folder / "mer.zarr")
    assert explain("one")["run"]["state"] == "trained"
    change(folder, "letters: 3", "letters: 4")
    run = explain("one")["run"]
    assert (run["state"], run["why"][0]["what"]) == ("stale", "feature few")


def test_one_sample_is_followed_too(folder: Path) -> None:
    louder = explain("cried", "s1")["inputs"]["text"]["from"]
    assert louder["sample"]["text"] == "B C!!"
    assert louder["sample"]["unchanged"] is True
    assert louder["inputs"]["text"]["from"]["inputs"]["text"]["given"] == "b c"
    odd = explain("cried", "odd")
    assert odd["sample"]["failed"] == "stream 'louder' failed: stream 'loud' failed: " + (
        "nothing to shout"
    )
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("s1,train,happy,b c", "s1,train,happy,bb"))
    assert explain("loud", "s1")["sample"]["unchanged"] is False
    assert "its file changed since" in mer("explain", "loud", "s1").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lowder"], "registry.yaml has no stream, feature or branch 'lowder'; did you mean"),
        (["ensembel"], "did you mean 'ensemble'?"),
        (["few", "s999"], "manifest.csv has no sample 's999'; did you mean 's9'?"),
        (["few", "--manifest", "nope.csv"], "cannot read the manifest nope.csv"),
        (["few", "--registry", "nope.yaml"], "no registry at 'nope.yaml'"),
        (["few", "--store", "runs"], "runs: not a mercore store"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(
    folder: Path, arguments: list[str], message: str
) -> None:
    result = mer("explain", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_tree_shows_each_stream_once(folder: Path) -> None:
    change(folder, "few + cried", "cried + nested")
    shown = mer("explain", "few").stdout
    assert shown.count("stream loud as Words(), see above") == 1
    assert shown.count("given: mark") == 0
    assert 'given: first shout {"mark": "?"}' in shown
    assert shown.splitlines()[0] == "feature few (registry.yaml:6)"
