from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mercore.errors import RegistryError
from mercore.machine import Machine
from mercore.predict import Predictor
from mercore.project import Project
from mercore.store import Store

REGISTRY = """\
classes: [rising, falling]
features:
  words: {uses: letters, inputs: {text: text}, with: {letters: 4}, frames: true}
fusion: {uses: attention, with: {hidden: 16, lr: 0.02, epochs: 15, frames: 4}}
branches:
  order: words
  pooled: {features: words, with: {frames: null}}
folds: 3
"""


def project(folder: Path, registry: str = REGISTRY) -> Project:
    """Return samples that only the order of their words tells apart."""
    random = np.random.default_rng(0)
    (folder / "registry.yaml").write_text(registry)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "text"])
        for number in range(90):
            words = sorted(random.choice(list("abcd"), size=random.integers(2, 5), replace=False))
            label = ("rising", "falling")[number % 2]
            text = " ".join(words if label == "rising" else reversed(words))
            writer.writerow([f"s{number}", "train" if number < 75 else "test", label, text])
    return Project.open(
        folder / "registry.yaml",
        folder / "manifest.csv",
        folder / "mer.zarr",
        out=folder / "run",
        create=True,
        machine=Machine(device="cpu"),
    )


def test_sequences_tell_what_vectors_cannot(tmp_path: Path) -> None:
    opened = project(tmp_path)
    opened.extract()
    opened.train()
    order, pooled = opened.first_results()
    assert order.waf > 0.95
    assert pooled.waf < 0.75
    test = opened.manifest.samples[75:]
    votes = Predictor.open(tmp_path / "run", Machine(device="cpu")).predict(
        test, Store(tmp_path / "new.zarr", create=True)
    )
    right = [vote.votes["order"] == sample.label for vote, sample in zip(votes, test, strict=True)]
    assert np.mean(right) > 0.9
    stored = {name: table for name, table in zip(opened.ids, order.probabilities, strict=True)}
    for vote in votes:
        np.testing.assert_allclose(
            list(vote.branches["order"].values()), stored[vote.id], atol=1e-6
        )


def test_a_feature_without_sequences_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        RegistryError, match=r"branches\.order: fusion 'attention' reads the frames"
    ):
        project(tmp_path, REGISTRY.replace(", frames: true", ""))
