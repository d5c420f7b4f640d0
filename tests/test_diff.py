from __future__ import annotations

import json
import os
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from run_mer import mer, mer_json
from toy_projects import write_texts

from mercore_toys import Letters, Shout

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
  louder: {uses: shout, inputs: {text: loud}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}}
  all: {uses: letters, inputs: {text: text}}
  cried: {uses: letters, inputs: {text: louder}}
fusion: centroid
branches:
  one: few
  both: few + all
  crying: cried + all
folds: 3
mining: {rounds: 2, agree: 2}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run: its sad samples say `a`, its happy ones `b`."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "registry.yaml").write_text(REGISTRY)
    write_texts(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        mer_json("run", "--device", "cpu")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project for one test."""
    copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder: Path, *swaps: tuple[str, str]) -> str:
    """Write b.yaml, the registry with other words in it; return its name."""
    text = REGISTRY
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    (folder / "b.yaml").write_text(text)
    return "b.yaml"


def parts(about: Any) -> dict[str, tuple[str, list[str]]]:
    """Return what is not the same: its status, and the names of what changed."""
    return {
        f"{part['kind']} {part['name']}".strip(): (
            part["status"],
            [reason["what"] for reason in part["why"]],
        )
        for part in about["parts"]
        if part["status"] != "same"
    }


def predicted(about: Any) -> tuple[dict[str, int], list[str]]:
    """Return how many samples are to be computed, and which branches trained."""
    plan = about["plan"]
    counts = {row["name"]: row["compute"] for row in plan["extracted"]}
    return counts, [row["name"] for row in plan["branches"] if row["train"]]


def done(*arguments: str) -> tuple[dict[str, int], list[str]]:
    """Run the pipeline; return the same of what was done."""
    result = mer("run", *arguments, "--device", "cpu", "--json")
    assert result.exit_code in (0, 3), result.output
    about = json.loads(result.stdout)
    return {row["name"]: row["extracted"] for row in about["extracted"]}, about["trained"]


def test_comments_and_order_make_no_difference(folder: Path) -> None:
    text = REGISTRY.replace("folds: 3\n", "").replace("classes", "folds: 3  # parts\nclasses")
    (folder / "b.yaml").write_text(
        text.replace("fusion: centroid", "fusion: {uses: centroid}  # nearest")
    )
    about = mer_json("diff", "registry.yaml", "b.yaml", "--exit-code")
    assert not about["differs"]
    assert parts(about) == {}
    assert mer("diff", "registry.yaml", "b.yaml").stdout.startswith("no difference in what is")


def test_an_option_changes_what_is_made_from_it(folder: Path) -> None:
    about = mer_json("diff", "registry.yaml", change(folder, ("letters: 3", "letters: 4")))
    assert parts(about) == {
        "feature few": ("changed", ["with.letters"]),
        "branch one": ("changed", ["feature few"]),
        "branch both": ("changed", ["feature few"]),
        "mining": ("changed", ["branch one", "branch both"]),
        "results": ("changed", ["branch one", "branch both", "mining"]),
    }
    (few,) = (part for part in about["parts"] if part["name"] == "few")
    assert few["why"] == [{"what": "with.letters", "before": 3, "after": 4}]


def test_a_stream_changes_all_that_is_made_from_it(folder: Path) -> None:
    b = change(folder, ("inputs: {text: text}}\n  louder", "with: {mark: '?'}}\n  louder"))
    found = parts(mer_json("diff", "registry.yaml", b))
    assert found["stream loud"] == ("changed", ["with.mark"])
    assert found["stream louder"] == ("changed", ["stream loud"])
    assert found["feature cried"] == ("changed", ["stream louder"])
    assert found["branch crying"] == ("changed", ["feature cried"])
    assert "branch one" not in found


@pytest.mark.parametrize(
    ("swap", "part", "what"),
    [
        (("loud: {uses: shout", "loud: {uses: sign"), "stream loud", ["uses", "inputs.id"]),
        (
            ("few: {uses: letters,", "few: {dtype: float16, uses: letters,"),
            "feature few",
            ["dtype"],
        ),
        (("{text: louder}", "{text: loud}"), "feature cried", ["inputs.text"]),
        (("{letters: 3}", "{letters: 3}, frames: true"), "feature few", ["frames"]),
        (("both: few + all", "both: all + few"), "branch both", ["features"]),
        (("fusion: centroid", "fusion: linear"), "branch one", ["uses"]),
        (("folds: 3", "folds: 4"), "branch one", ["folds"]),
        (("folds: 3", "folds: 3\nseed: 1"), "branch one", ["seed"]),
        (("agree: 2", "agree: 3"), "mining", ["agree"]),
        (("folds: 3", "folds: 3\nensemble: majority"), "ensemble", ["uses"]),
    ],
)
def test_what_changed_is_named(
    folder: Path, swap: tuple[str, str], part: str, what: list[str]
) -> None:
    found = parts(mer_json("diff", "registry.yaml", change(folder, swap)))
    assert found[part] == ("changed", what)


def test_what_is_added_and_removed_is_named(folder: Path) -> None:
    b = change(folder, ("  one: few\n", "  other: all\n"), ("mining: {rounds: 2, agree: 2}\n", ""))
    found = parts(mer_json("diff", "registry.yaml", b))
    assert found["branch other"] == ("added", [])
    assert found["branch one"] == ("removed", [])
    assert found["mining"] == ("removed", [])
    plan = mer_json("diff", "registry.yaml", b)["plan"]
    assert plan["left"] == ["one"]
    assert plan["mining"] is None


def test_a_feature_by_another_name_is_computed_again(folder: Path) -> None:
    b = change(folder, ("few", "first"))
    about = mer_json("diff", "registry.yaml", b)
    assert parts(about)["feature first"] == ("added", ["name"])
    assert parts(about)["feature few"] == ("removed", [])
    assert predicted(about)[0]["first"] == 36
    assert "is few by another name" in mer("diff", "registry.yaml", b).stdout


def test_a_stream_by_another_name_changes_no_feature(folder: Path) -> None:
    about = mer_json("diff", "registry.yaml", change(folder, ("louder", "loudest")))
    assert set(parts(about)) == {"stream loudest", "stream louder"}
    counts, branches = predicted(about)
    assert counts == {"loud": 0, "loudest": 36, "few": 0, "all": 0, "cried": 0}
    assert branches == []


@pytest.mark.parametrize(
    "swaps",
    [
        [],
        [("letters: 3", "letters: 4")],
        [("inputs: {text: text}}\n  louder", "with: {mark: '?'}}\n  louder")],
        [("{letters: 3}", "{letters: 3}, frames: true")],
        [("both: few + all", "both: all + few")],
        [("folds: 3", "folds: 3\nseed: 1")],
        [("agree: 2", "agree: 3")],
        [("  one: few\n", "  other: all\n")],
        [("few", "first"), ("louder", "loudest")],
        [("one: few", "one: {features: few, with: {sharpness: 2}}")],
    ],
    ids=str,
)
def test_what_is_predicted_is_what_mer_run_does(folder: Path, swaps: list[tuple[str, str]]) -> None:
    about = mer_json("diff", "registry.yaml", change(folder, *swaps))
    mining = about["plan"]["mining"]
    rounds = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("mining/*/*/*/b*")}
    assert done("--registry", "b.yaml") == predicted(about)
    again = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("mining/*/*/*/b*")}
    new = {path.parts[-4] for path in again if again[path] != rounds.get(path)}
    assert bool(new) == (mining["first"] is not None)
    assert all(int(name.removeprefix("round")) > mining["kept"] for name in new)
    after = mer_json("diff", "b.yaml", "b.yaml")
    assert predicted(after) == (dict.fromkeys(predicted(about)[0], 0), [])
    assert after["plan"]["mining"]["first"] is None


def test_a_changed_sample_is_predicted(folder: Path) -> None:
    rows = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(rows.replace("s0,train,sad,a c", "s0,train,sad,aa c"))
    about = mer_json("diff", "registry.yaml", "registry.yaml")
    assert not about["differs"]
    assert predicted(about)[0] == {"loud": 1, "louder": 1, "few": 1, "all": 1, "cried": 1}
    assert done() == predicted(about)


def test_another_label_trains_but_extracts_nothing(folder: Path) -> None:
    rows = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(rows.replace("s0,train,sad", "s0,train,happy"))
    about = mer_json("diff", "registry.yaml", "registry.yaml")
    assert sum(predicted(about)[0].values()) == 0
    (one, *_) = about["plan"]["branches"]
    assert one["why"][0]["what"] == "training samples"
    assert done() == predicted(about)


def test_a_store_that_was_lost_is_filled_but_its_branches_stand(folder: Path) -> None:
    rmtree(folder / "mer.zarr")
    about = mer_json("diff", "registry.yaml", "registry.yaml")
    assert not about["stored"]
    assert predicted(about) == ({"loud": 36, "louder": 36, "few": 36, "all": 36, "cried": 36}, [])
    assert not (folder / "mer.zarr").exists()
    assert done() == predicted(about)


def test_nothing_is_known_to_be_there_before_the_first_run(folder: Path) -> None:
    rmtree(folder / "mer.zarr")
    rmtree(folder / "runs")
    about = mer_json("diff", "registry.yaml", "registry.yaml")
    assert predicted(about)[1] == ["one", "both", "crying"]
    assert about["plan"]["mining"]["first"] == 1
    assert about["plan"]["seconds"] == 0
    assert {row["measured"] for row in about["plan"]["extracted"]} == {
        "nothing like it was measured"
    }
    shown = mer("diff", "registry.yaml", "registry.yaml").stdout
    assert "how long it takes is not known" in shown
    assert "no store at mer.zarr" in shown


def test_failed_samples_are_not_computed_again(folder: Path) -> None:
    with (folder / "manifest.csv").open("a") as file:
        file.write("odd,test1,sad,refuse\n")
    assert done()[0] == {"loud": 1, "louder": 1, "few": 1, "all": 1, "cried": 1}
    about = mer_json("diff", "registry.yaml", "registry.yaml")
    assert sum(predicted(about)[0].values()) == 0
    assert done() == predicted(about)


def test_times_are_what_the_same_took(folder: Path) -> None:
    b = change(folder, ("letters: 3", "letters: 4"))
    plan = mer_json("diff", "registry.yaml", b)["plan"]
    (few,) = (row for row in plan["extracted"] if row["name"] == "few")
    assert few["seconds"] > 0
    assert few["measured"].startswith("36 samples of ")
    assert few["measured"].endswith(", other options or inputs")
    one, both, crying = plan["branches"]
    assert one["measured"] == "runs/default, the branch itself"
    kept = json.loads((folder / "runs/default/branches/one/branch.json").read_text())
    assert one["seconds"] == pytest.approx(kept["seconds"], abs=1e-3)
    assert crying == {
        "name": "crying", "train": False, "why": [], "seconds": 0.0, "measured": None
    }  # fmt: skip
    total = few["seconds"] + one["seconds"] + both["seconds"] + plan["mining"]["seconds"]
    assert plan["seconds"] == pytest.approx(total, abs=0.01)


def test_what_the_second_does_not_use_is_superseded(folder: Path) -> None:
    b = change(folder, ("letters: 3", "letters: 4"))
    (gone,) = mer_json("diff", "registry.yaml", b)["superseded"]
    assert gone["name"].startswith("features/few@")
    assert gone["samples"] == 36
    mer_json("run", "--registry", "b.yaml", "--device", "cpu")
    names = [row["name"] for row in mer_json("status", "--registry", "b.yaml")["superseded"]]
    assert names == [gone["name"]]


def test_a_run_folder_stands_for_its_registry(folder: Path) -> None:
    text = REGISTRY.replace("letters: 3", "letters: 4")
    (folder / "registry.yaml").write_text(text)
    (folder / "runs/default").rename(folder / "runs/old")
    about = mer_json("diff", "runs/old", "registry.yaml")
    assert parts(about)["feature few"] == ("changed", ["with.letters"])
    assert about["out"] == "runs/old"
    assert predicted(about)[1] == ["one", "both"]
    back = mer_json("diff", "registry.yaml", "runs/old")
    assert predicted(back) == (dict.fromkeys(("loud", "louder", "few", "all", "cried"), 0), [])
    apart = mer_json("diff", "runs/old", "registry.yaml", "--out", "runs/new")
    assert predicted(apart)[1] == ["one", "both", "crying"]
    assert apart["plan"]["branches"][0]["measured"] == "runs/old, the branch itself"


def test_a_new_revision_of_a_component_is_told_from_what_the_store_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shout, "revision", 2)
    about = mer_json("diff", "runs/default", "registry.yaml")
    assert not about["differs"]  # the words are the same, and so is what they mean now
    counts, branches = predicted(about)
    assert counts == {"loud": 36, "louder": 36, "few": 0, "all": 0, "cried": 36}
    assert branches == ["crying"]
    (crying,) = (row for row in about["plan"]["branches"] if row["name"] == "crying")
    assert {"what": "stream loud: revision", "before": 1, "after": 2} in crying["why"]
    assert done() == (counts, branches)


def test_what_identifies_a_checkpoint_is_shown_as_it_was_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Letters, "identity", lambda self: {"letters": f"{self.letters:032x}"})
    b = change(folder, ("letters: 3", "letters: 4"))
    about = mer_json("diff", "registry.yaml", b)
    (few,) = (part for part in about["parts"] if part["name"] == "few")
    assert few["why"] == [{"what": "with.letters", "before": 3, "after": 4}]


def test_options_that_a_search_found_count(folder: Path) -> None:
    text = REGISTRY.replace("fusion: centroid", "fusion: linear")
    (folder / "registry.yaml").write_text(text)
    mer_json("train", "--search", "3", "--out", "runs/found", "--device", "cpu")
    assert predicted(mer_json("diff", "runs/found", "runs/found"))[1] == []
    found = json.loads((folder / "runs/found/search.json").read_text())
    other = mer_json("diff", "registry.yaml", "registry.yaml", "--out", "runs/found")
    assert not other["differs"]
    apart = parts(mer_json("diff", "runs/found", "registry.yaml", "--out", "runs/new"))
    changed = {name for name, entry in found.items() if entry["best"]["options"]}
    assert {f"branch {name}" for name in changed} == {name for name in apart if "branch" in name}


def test_mistakes_of_both_files_are_reported_with_the_file(folder: Path) -> None:
    (folder / "a.yaml").write_text(REGISTRY.replace("uses: shout", "uses: shuot"))
    (folder / "b.yaml").write_text(REGISTRY.replace("letters: 3", "leters: 3"))
    result = mer("diff", "a.yaml", "b.yaml")
    assert result.exit_code == 1
    assert "Error: the first: a.yaml has 2 mistakes:\n  a.yaml:3: streams.loud: " in result.stderr
    assert "did you mean 'shout'?" in result.stderr
    assert "\nthe second: b.yaml has 1 mistake:\n  b.yaml:6: features.few: " in result.stderr


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    missing = mer("diff", "registry.yaml", "nope.yaml")
    assert missing.exit_code == 1
    assert "the second: nothing at 'nope.yaml'; give a registry or a run folder" in missing.stderr
    (folder / "empty").mkdir()
    empty = mer("diff", "empty", "registry.yaml").stderr
    assert "the first: no registry.yaml in 'empty'" in empty
    assert (
        "name one with --manifest"
        in mer("diff", "registry.yaml", "registry.yaml", "--manifest", "nope.csv").stderr
    )
    other = mer("diff", "registry.yaml", "registry.yaml", "--store", "runs")
    assert "runs: not a mercore store" in other.stderr


def test_without_a_manifest_the_registries_are_compared(folder: Path) -> None:
    (folder / "manifest.csv").unlink()
    b = change(folder, ("letters: 3", "letters: 4"))
    about = mer_json("diff", "registry.yaml", b)
    assert about["differs"]
    assert about["plan"] is None
    assert "no manifest.csv here" in mer("diff", "registry.yaml", b).stdout


@pytest.mark.parametrize(
    ("swap", "problem"),
    [
        (("[sad, happy]", "[sad, glad]"), "label 'happy' is not a class"),
        (("folds: 3", "folds: 20"), "20 folds need at least 20 samples"),
        (("all: {uses: letters, inputs: {text: text}}", "all: {uses: loudness}"), "gives audio"),
    ],
)
def test_a_registry_that_cannot_be_run_is_compared_all_the_same(
    folder: Path, swap: tuple[str, str], problem: str
) -> None:
    about = mer_json("diff", "registry.yaml", change(folder, swap))
    assert problem in about["problem"]
    assert about["differs"]
    assert mer("run", "--registry", "b.yaml").exit_code == 1


def test_the_exit_status_tells_only_when_it_is_asked_to(folder: Path) -> None:
    b = change(folder, ("letters: 3", "letters: 4"))
    assert mer("diff", "registry.yaml", b).exit_code == 0
    assert mer("diff", "registry.yaml", b, "--exit-code").exit_code == 1
    assert mer("diff", "registry.yaml", "registry.yaml", "--exit-code").exit_code == 0


def test_nothing_is_written(folder: Path) -> None:
    b = change(folder, ("letters: 3", "letters: 4"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    mer("diff", "registry.yaml", b)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_tables_say_why_and_what_there_is_to_do(folder: Path) -> None:
    b = change(folder, ("letters: 3", "letters: 4"))
    lines = [line.split() for line in mer("diff", "registry.yaml", b).stdout.splitlines()]
    assert ["feature", "few", "changed", "with.letters:", "3", "->", "4"] in lines
    assert ["branch", "one", "changed", "feature", "few", "changed"] in lines
    assert ["To", "run", "b.yaml", "in", "runs/default:"] in lines
    assert any(line[:5] == ["feature", "few", "36", "samples", "0"] for line in lines)
    assert ["feature", "all", "36", "samples"] in lines
    assert ["branch", "crying", "trained"] in lines
    assert any(line[:2] == ["one", "is"] and "with.letters:" in line for line in lines)
