"""The paper's pipeline, with checkpoints in the published layouts that are tiny and random."""

from __future__ import annotations

import csv
import runpy
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mercore.cli import main
from mercore.components import Record
from mercore.manifest import Manifest
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.store import Store

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "examples/mer2024/registry.yaml"
FEATURES = {"hubert": 128, "baichuan": 40, "vit": 32, "internvit": 768, "jat": 64}
"""The width of each tiny network."""
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
DEMO = ROOT / "examples/demo/manifest.csv"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registry that the script writes, beside its checkpoints."""
    script = runpy.run_path(str(ROOT / "examples/mer2024/make_tiny_checkpoints.py"))
    written: Path = script["write_all"](tmp_path_factory.mktemp("tiny"))
    return written


def some_clips(folder: Path) -> Path:
    """Return a manifest of a few of the demo's clips: of two classes, five to train and a test.

    Five are as many as there are folds.
    """
    left = {(split, label): n for split, n in (("train", 5), ("test", 1)) for label in CLASSES[:2]}
    rows = ["id,split,label,video"]
    for sample in Manifest.read(DEMO, CLASSES).samples:
        kind = (sample.split, sample.label or "")
        if left.get(kind):
            left[kind] -= 1
            rows.append(f"{sample.id},{sample.split},{sample.label},{sample.media['video']}")
    path = folder / "manifest.csv"
    path.write_text("\n".join([*rows, ""]))
    return path


def choices(store: Path, ids: list[str]) -> list[Record]:
    """Return what was noted of the denoised audio of each sample."""
    (denoised,) = (part for part in Store(store).collections("streams") if part.name == "denoised")
    return [denoised.entries()[id].record for id in ids]


def test_the_pipeline_of_the_paper_has_no_mistakes() -> None:
    nodes = resolve(Registry.read(SHIPPED), Plugins()).nodes
    assert set(FEATURES) <= set(nodes)


def test_tiny_checkpoints_change_no_more_than_the_checkpoint_lines(registry: Path) -> None:
    both = zip_longest(SHIPPED.read_text().splitlines(), registry.read_text().splitlines())
    changed = [(old, new) for old, new in both if old != new]
    assert len(changed) == SHIPPED.read_text().count("checkpoint: ")
    for old, new in changed:
        assert old.strip().startswith("checkpoint: ")
        assert Path(new.strip().removeprefix("checkpoint: ")).is_dir()


def test_the_whole_pipeline_runs(registry: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "mer.zarr", tmp_path / "run"
    places = {"--manifest": some_clips(tmp_path), "--store": store, "--out": out}
    options = [str(part) for pair in places.items() for part in pair]
    arguments = ["run", "--registry", str(registry), *options, "--device", "cpu", "--json"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with (out / "predictions.csv").open(newline="") as file:
        predicted = list(csv.DictReader(file))
    ids = [row["id"] for row in predicted]
    assert len(ids) == 2 * (5 + 1)
    assert {choice["decision"] for choice in choices(store, ids)} <= {"original", "first", "second"}
    for name, dim in FEATURES.items():
        vectors = Store(store)[name].matrix(ids)
        assert vectors.shape == (len(ids), dim), name
        assert np.isfinite(vectors).all(), name
        assert len(np.unique(vectors, axis=0)) > 1, name
