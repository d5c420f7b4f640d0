from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mercore.cli import main
from mercore.pipeline import BranchNode
from mercore.search import Search, Trial, best
from mercore_attention import Attention
from mercore_linear import Linear
from mercore_toys import Centroid

REGISTRY = """\
classes: [few, many]
features:
  letters: {uses: letters, inputs: {text: text}, with: {letters: 4}}
fusion: {uses: attention, with: {hidden: 4, lr: 1.0e-6, epochs: 9}}
branches:
  one: letters
  two: {features: letters, uses: linear}
folds: 2
"""


def branch(**options: object) -> BranchNode:
    return BranchNode("one", ("a",), Attention.model_validate(options), "mercore-attention 0.1.0")


def run(search: Search, known: list[Trial] | None = None) -> tuple[list[Trial], list[Attention]]:
    """Return the trials where a smaller rate of learning is better, and what was trained."""
    trained: list[Attention] = []

    def scores(nodes: Sequence[BranchNode]) -> Iterator[float]:
        for node in nodes:
            assert isinstance(node.fusion, Attention)
            trained.append(node.fusion)
            yield 1 - node.fusion.lr

    return list(search.run(scores, known or ())), trained


def test_the_best_third_goes_on_with_three_times_the_epochs() -> None:
    search = Search(branch(epochs=100), 50, seed=0)
    trials, trained = run(search)
    assert [sum(t.epochs == e for t in trials) for e in (4, 12, 34, 100)] == [50, 16, 5, 1]
    assert len(trials) == search.trials
    assert {fusion.epochs for fusion in trained} == {4, 12, 34, 100}
    first = [t for t in trials if t.epochs == 4]
    assert best(trials).waf == max(t.waf for t in first)
    assert best(trials).epochs == 100


def test_draws_differ_lie_in_the_ranges_and_begin_with_the_registry() -> None:
    trials, trained = run(Search(branch(lr=0.5), 30, seed=0))
    assert trials[0].options == {}
    assert trained[0].lr == 0.5
    drawn = [json.dumps(t.options) for t in trials[:30]]
    assert len(set(drawn)) == 30
    for fusion in trained[1:30]:
        assert 1e-4 <= fusion.lr <= 1e-3
        assert 0.2 <= fusion.dropout <= 0.5
        assert fusion.hidden in (64, 128, 256)


def test_the_seed_and_the_name_of_the_branch_decide_the_draws() -> None:
    one, again, other = (run(Search(branch(), 5, seed))[0] for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_few_epochs_or_draws_take_fewer_rungs() -> None:
    assert {t.epochs for t in run(Search(branch(epochs=2), 9, 0))[0]} == {2}
    assert [t.epochs for t in run(Search(branch(epochs=100), 4, 0))[0]] == [34] * 4 + [100]


def test_a_fusion_without_epochs_is_trained_whole_every_time() -> None:
    node = BranchNode("two", ("a",), Linear(), "mercore-linear 0.1.0")
    trials = list(Search(node, 7, 0).run(lambda nodes: repeat(0.5, len(nodes))))
    assert [t.epochs for t in trials] == [None] * 7
    assert best(trials) == trials[0]


def test_known_trials_are_not_made_again() -> None:
    search = Search(branch(), 9, 0)
    trials, _ = run(search)
    again, trained = run(search, trials[:5])
    assert again == trials
    assert len(trained) == len(trials) - 5


def test_nothing_to_search_is_an_error() -> None:
    from mercore.errors import RegistryError

    node = BranchNode("one", ("a",), Centroid(), "mercore-toys 0.1.0")
    with pytest.raises(RegistryError, match="'centroid' has no options to search"):
        list(Search(node, 5, 0).run(lambda nodes: repeat(0.5, len(nodes))))


def mer(folder: Path, *arguments: str) -> Result:
    places = {"registry": "registry.yaml", "manifest": "manifest.csv", "store": "mer.zarr"}
    files = [part for name, file in places.items() for part in (f"--{name}", str(folder / file))]
    out = [] if arguments[0] == "extract" else ["--out", str(folder / "run")]
    return CliRunner().invoke(main, [*arguments, *files, *out, "--device", "cpu"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "text"])
        for number in range(60):
            count = 1 + number % 2
            text = "a" * count + "".join(random.choice(list("bcd"), size=3))
            split, label = "train" if number < 48 else "test", ("few", "many")[number % 2]
            writer.writerow([f"s{number}", split, label, text])
    assert mer(tmp_path, "extract").exit_code == 0
    return tmp_path


def test_a_search_beats_bad_options_and_holds_until_the_registry_changes(folder: Path) -> None:
    before = json.loads(mer(folder, "train", "--json").output)
    found = json.loads(mer(folder, "train", "--search", "6", "--json").output)
    assert np.mean(found[0]["fold_waf"]) > np.mean(before[0]["fold_waf"])
    assert set(found[0]["found"]) == {"lr", "dropout", "hidden"}
    stored = json.loads((folder / "run" / "search.json").read_text())["one"]
    assert stored["best"]["waf"] == max(t["waf"] for t in stored["tried"] if t["epochs"] == 9)
    kept = json.loads(mer(folder, "train", "--json").output)
    assert kept[0]["found"] == found[0]["found"]
    assert not kept[0]["trained_now"]
    text = (folder / "registry.yaml").read_text()
    (folder / "registry.yaml").write_text(text.replace("hidden: 4", "hidden: 5"))
    changed = json.loads(mer(folder, "train", "--json").output)
    assert changed[0]["found"] == {}
    assert changed[1]["found"] == found[1]["found"]


def test_no_label_outside_the_training_split_decides(folder: Path) -> None:
    mer(folder, "train", "--search", "4")
    first = json.loads((folder / "run" / "search.json").read_text())
    rows = (folder / "manifest.csv").read_text().splitlines()
    turned = [
        row
        if ",train," in row
        else row.replace("few", "X").replace("many", "few").replace("X", "many")
        for row in rows
    ]
    (folder / "manifest.csv").write_text("\n".join(turned) + "\n")
    mer(folder, "train", "--search", "4")
    second = json.loads((folder / "run" / "search.json").read_text())
    assert second["one"]["tried"] == first["one"]["tried"]
    assert second["one"]["key"] != first["one"]["key"]  # so they were made again


def test_an_interrupted_search_goes_on(folder: Path) -> None:
    mer(folder, "train", "--search", "6")
    path = folder / "run" / "search.json"
    whole = json.loads(path.read_text())
    cut = json.loads(path.read_text())
    del cut["one"]["best"]
    cut["one"]["tried"] = cut["one"]["tried"][:3]
    cut["one"]["tried"][1]["waf"] = 2.0  # so that one can see that it is taken over
    path.write_text(json.dumps(cut))
    mer(folder, "train", "--search", "6")
    again = json.loads(path.read_text())
    assert again["one"]["tried"][1]["waf"] == 2.0
    assert again["one"]["tried"][0] == whole["one"]["tried"][0]
    assert again["two"] == whole["two"]


def test_prediction_uses_what_was_found(folder: Path) -> None:
    mer(folder, "train", "--search", "6")
    (folder / "clip.txt").write_text("aab")
    done = CliRunner().invoke(
        main, ["predict", str(folder / "clip.txt"), "--out", str(folder / "run"), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    report = CliRunner().invoke(
        main,
        ["report", "--json", "--out", str(folder / "run"), "--registry",
         str(folder / "registry.yaml"), "--manifest", str(folder / "manifest.csv"), "--store",
         str(folder / "mer.zarr")],
    )  # fmt: skip
    assert "did best in cross-validation" in report.output
