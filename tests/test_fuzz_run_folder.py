"""No file of a run folder ends in a traceback: it is a RunError, or the file is made anew."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import FUZZ, MANY, as_json, damaged, told, twisted
from safetensors.numpy import load, save
from toy_projects import REGISTRY, opened

import mercore
from mercore import Project
from mercore.ablation import ablate, current
from mercore.errors import MercoreError, RunError
from mercore.explanation import explain, known_of
from mercore.folder import RunFolder
from mercore.predict import Predictor
from mercore.search import Trial, declared, known, save_trials
from mercore.submission import submit

FILES = (
    "branches/one/branch.json", "branches/both/probabilities.csv", "folds.csv", "search.json",
    "mining/mining.json", "mining/round1/branches/one/branch.json", "predictions.csv",
    "report.json", "ablation.json",
)  # fmt: skip
WEIGHTS = tuple(
    f"mining/round1/branches/{branch}/{part}{fold}.safetensors"
    for branch in ("one", "both") for part in ("fold", "mean") for fold in (0, 1)
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project that is searched, trained and mined."""
    folder = tmp_path_factory.mktemp("project")
    opened(folder)
    learns = REGISTRY.replace("mean_probability", "stacking")
    (folder / "registry.yaml").write_text(f"{learns}mining: {{rounds: 1, agree: 2}}\n")
    project = reopened(folder)
    for name, branch in project.pipeline.branches.items():
        entry: dict[str, Any] = {"declared": declared(branch), "key": "k", "draws": 1}
        trial = Trial({"sharpness": 2.0}, None, 0.5)
        save_trials(project.folder, name, entry, [trial], done=True)
    reopened(folder).mine()
    ablate(reopened(folder), [("few",), ("few", "all")])
    reopened(folder).run()
    (folder / "new.txt").write_text("a b c")
    shutil.copytree(folder / "run", folder / "kept")
    return folder


def reopened(folder: Path) -> Project:
    return mercore.open(
        folder / "registry.yaml",
        manifest=folder / "manifest.csv",
        store=folder / "mer.zarr",
        out=folder / "run",
        device="cpu",
    )


def mutated(path: Path, chance: random.Random) -> bytes:
    """Return the file damaged, or right in its format and wrong in what it says."""
    data = path.read_bytes()
    if path.suffix == ".safetensors" and chance.random() < 0.7:
        return reshaped(data, chance)
    if path.suffix == ".json" and chance.random() < 0.7:
        return as_json(twisted(json.loads(data), chance))
    if path.suffix == ".csv" and chance.random() < 0.7:
        rows = twisted(list(csv.reader(io.StringIO(data.decode()))), chance)
        lines = [",".join(map(shown, row)) if isinstance(row, list) else shown(row) for row in rows]
        return "\n".join(lines).encode(errors="replace")
    return damaged(data, chance)


def reshaped(data: bytes, chance: random.Random) -> bytes:
    """Return the tensors with others than were learnt: another shape, dtype, name or value."""
    tensors = load(data)
    name = chance.choice(list(tensors))
    old = tensors.pop(name)
    new = chance.choice(
        [
            old.T, old[:1], old[:0], old[None], old.ravel(), np.repeat(old, 2, axis=-1),
            old.astype(np.float64), old.astype(np.int8), old * np.nan, np.float32(1),
        ]
    )  # fmt: skip
    if chance.random() < 0.9:
        tensors[name if chance.random() < 0.9 else "other"] = np.array(new, order="C")
    return save(tensors)


def forget_checksums(branch: Path) -> None:
    """Make a branch one of before checksums were noted."""
    about = json.loads((branch / "branch.json").read_bytes())
    (branch / "branch.json").write_text(json.dumps({**about, "crc32c": {}}))


def shown(cell: object) -> str:
    return hex(cell) if isinstance(cell, int) else str(cell)  # of 5,000 digits there is no other


def look_at(folder: Path, name: str) -> None:
    """Read what reads a file, and make anew what is missing; MercoreErrors are fine."""
    run, new = folder / "run", [folder / "new.txt"]
    known = partial(
        known_of, folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr", None, run
    )
    reads: list[Callable[[], object]] = [
        lambda: Predictor.open(run),
        lambda: submit(run, "mer2024", folder / "out.csv"),
        lambda: explain("ensemble", known()) + explain("one", known()),
        lambda: reopened(folder).rounds(),
        lambda: reopened(folder).ensemble(),
        lambda: reopened(folder).mine(),
        lambda: reopened(folder).ensemble(),
    ]
    match Path(name):
        case Path(name="report.json"):
            reads = [lambda: explain("ensemble", known())]
        case Path(name="ablation.json"):
            reads = [lambda: reopened(folder).report()]
        case Path(suffix=".safetensors"):
            reads = [lambda: Predictor.open(run).predict_files(new, store=folder / "new.zarr")]
    for read in reads:
        with told(MercoreError):
            read()


@settings(FUZZ, max_examples=500 if MANY else 10)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(FILES))
def test_a_file_of_a_run_folder_may_hold_anything(folder: Path, seed: int, name: str) -> None:
    check_mutated(folder, seed, name)


@settings(FUZZ, max_examples=500 if MANY else 10)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(WEIGHTS))
def test_weights_may_be_anything(folder: Path, seed: int, name: str) -> None:
    check_mutated(folder, seed, name)


def check_mutated(folder: Path, seed: int, name: str) -> None:
    shutil.rmtree(folder / "run")
    shutil.copytree(folder / "kept", folder / "run")
    path = folder / "run" / name
    chance = random.Random(seed)
    path.write_bytes(mutated(path, chance))
    if path.suffix == ".safetensors" and chance.random() < 0.7:
        forget_checksums(path.parent)
    look_at(folder, name)


@pytest.fixture
def run(folder: Path) -> RunFolder:
    shutil.rmtree(folder / "run")
    shutil.copytree(folder / "kept", folder / "run")
    return RunFolder(folder / "run")


@pytest.mark.parametrize(
    "content", ["[1]", '{"key": "k"}', '{"waf": NaN}', "[" * 100_000, "\ud7ff"]
)
def test_a_branch_whose_json_is_damaged_is_trained_again(
    folder: Path, run: RunFolder, content: str
) -> None:
    whole = (run.path / "branches/one/branch.json").read_bytes()
    (run.path / "branches/one/branch.json").write_text(content)
    assert run.trained("one") is None
    assert reopened(folder).train() == ["one"]
    found, kept = (
        json.loads(b) for b in ((run.path / "branches/one/branch.json").read_bytes(), whole)
    )
    assert {**found, "seconds": 0} == {**kept, "seconds": 0}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("s0,", "\n\ns0,", None),
        ("s0,0", "s0,9", "rows that are no probabilities"),
        ("s0,0.", "s0,nan#", "not the table of this manifest"),
        ("s1,", 's1",', "not the table of this manifest"),
    ],
)
def test_a_damaged_table_is_named(run: RunFolder, old: str, new: str, says: str | None) -> None:
    path = run.path / "branches/one/probabilities.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    ids = [f"s{number}" for number in range(12)]
    if says is None:
        assert len(run.probabilities("one", ids, 2)) == 12
    else:
        with pytest.raises(RunError, match=f"probabilities.csv: .*{says}"):
            run.probabilities("one", ids, 2)


def test_labels_that_are_no_classes_are_named(run: RunFolder) -> None:
    path = run.path / "folds.csv"
    path.write_text(path.read_text().replace("happy", "hoppy"))
    with pytest.raises(RunError, match=r"folds.csv: found the label 'hoppy', the classes are sad"):
        Predictor.open(run.path)


@pytest.mark.parametrize("rounds", ["../../x", 10**9, None, [1]])
def test_a_last_round_that_is_not_there_is_none(run: RunFolder, rounds: object) -> None:
    about = run.read_json("mining/mining.json")
    assert about
    assert run.last_round(["one", "both"])
    (run.path / "mining/mining.json").write_text(json.dumps({**about, "rounds": rounds}))
    assert run.last_round(["one", "both"]) is None


def test_a_damaged_search_is_named_or_made_again(folder: Path, run: RunFolder) -> None:
    stored = run.read_json("search.json")
    assert stored
    entry = {key: stored["one"][key] for key in ("declared", "key", "draws")}
    assert len(known(run, "one", entry)) == 1
    stored["one"]["tried"] = [{"options": 1}]
    stored["one"]["best"]["options"] = {"sharpness": "very"}
    run.save_json("search.json", stored)
    assert known(run, "one", entry) == []
    with pytest.raises(RunError, match=r"search.json: .* branch 'one' is damaged at 'sharpness'"):
        reopened(folder)


def test_weights_that_are_not_those_that_were_written_are_named(run: RunFolder) -> None:
    path = run.path / "mining/round1/branches/one/fold1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in a number: its format is right
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"fold1.safetensors: it is not what was written; delete"):
        Predictor.open(run.path)


def test_weights_of_another_shape_are_told_of(folder: Path, run: RunFolder) -> None:
    branch = run.path / "mining/round1/branches/one"
    forget_checksums(branch)
    centres = load((branch / "fold1.safetensors").read_bytes())["centres"]
    (branch / "fold1.safetensors").write_bytes(save({"centres": np.repeat(centres, 2, axis=1)}))
    with pytest.raises(RunError, match=r"'one': fusion 'centroid' cannot use the weights .*Value"):
        Predictor.open(run.path).predict_files([folder / "new.txt"])


def test_an_ablation_that_was_changed_is_left_out(folder: Path, run: RunFolder) -> None:
    table = run.read_json("ablation.json")
    assert table
    assert current(reopened(folder))
    table["rows"][1]["scores"]["train"]["waf"] = "high"
    run.save_json("ablation.json", table)
    assert current(reopened(folder)) is None
    report = reopened(folder).report().content
    assert report["ablation"] is None
    assert "ablation.json is left out" in str(report["warnings"])


@pytest.mark.parametrize("scores", [None, {"train": 0.5}, {"train": {"waf": "high"}}])
def test_scores_that_are_none_are_not_shown(folder: Path, run: RunFolder, scores: object) -> None:
    run.save_json("report.json", {"ensemble": {"scores": scores}})  # type: ignore[dict-item]
    known = known_of(
        folder / "registry.yaml", folder / "manifest.csv", folder / "mer.zarr", None, run.path
    )
    (found,) = explain("ensemble", known)
    assert found["run"]["scores"] == {}
