"""Fine-tuning on labels: what is trained and saved, and the trunk that runs once."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_internvit as tiny
import torch
from click.testing import CliRunner
from torch.nn.functional import cross_entropy

import mercore
from mercore.cli import main
from mercore.encode import write_mp4
from mercore.errors import RunError
from mercore.media import FloatArray, Frames
from mercore.nn import Checkpoint
from mercore.testing import TuningTests
from mercore.tuning._plan import plan
from mercore.tuning.offers import tuning_of
from mercore.tuning.tune import job_of
from mercore_internvit import InternViT, InternViTTuning
from mercore_internvit._tower import POSITIONS
from mercore_internvit._tuning import InternViTTrainee

CLASSES = "abc"


@cache
def checkpoint(layout: tiny.Layout = "internvl_14b", kind: Literal["6b", "300m"] = "6b") -> str:
    config = tiny.SIX_B if kind == "6b" else tiny.THREE_HUNDRED_M
    return str(tiny.write(Path(tempfile.mkdtemp()), layout, config))


def clip(colour: int, frames: int = 6, seed: int = 0) -> Frames:
    """Return frames of noise around a colour."""
    noise = np.random.default_rng(seed).normal(0, 40, (frames, 48, 48, 3))
    pixels = (noise + 80 + 120 * np.eye(3)[colour]).clip(0, 255).astype(np.uint8)
    return Frames(pixels, np.arange(frames) / 5)


CLIPS = [clip(colour, 3 + colour, seed=colour) for colour in range(3)]


def rows_of(encoder: Any, clips: Sequence[Frames] = CLIPS) -> list[FloatArray]:
    return list(encoder.load("cpu", "float32")([{"frames": frames} for frames in clips]))


class Training:
    """A training outside of a project."""

    def __init__(self, encoder: InternViT, **options: Any) -> None:
        torch.manual_seed(0)
        self.encoder, self.tuning = encoder, InternViTTuning(**options)
        self.trainee = InternViTTrainee(encoder, self.tuning, 3, weights=True)
        trunk = self.tuning.trunk(encoder)
        self.rows = None if trunk is None else rows_of(trunk)

    def batch(self, *, training: bool) -> dict[str, torch.Tensor]:
        random = np.random.default_rng(0)
        if self.rows is None:
            media = [{"frames": frames} for frames in CLIPS]
            found = [self.trainee.example(each, random, training=training) for each in media]
        else:
            rows = map(list, self.rows)
            found = [self.trainee.from_trunk(each, random, training=training) for each in rows]
        return self.trainee.batch(found)

    def losses(self, steps: int = 4) -> list[float]:
        batch, labels = self.batch(training=True), torch.arange(3)
        parameters = [p for group in self.trainee.groups() for p in group.parameters]
        optimiser = torch.optim.SGD(parameters, 5e-3, 0.9)
        self.trainee.module.train()
        found = []
        for _ in range(steps):
            loss = cross_entropy(self.trainee.module(**batch)["logits"], labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            found.append(loss.item())
        return found

    def logits(self) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = self.trainee.module.eval()(**self.batch(training=False))["logits"]
        return found


class TestProjector(TuningTests):
    component = InternViT(checkpoint=checkpoint())
    tuning = InternViTTuning()
    steps = 3
    lr = 1e-3


class TestBlocks(TuningTests):
    component = InternViT(checkpoint=checkpoint("chat", "300m"), pool="mean", layers=(-2, -1))
    tuning = InternViTTuning(train="last-1")
    steps = 3
    lr = 1e-3


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"checkpoint": checkpoint()}, {"train": "projector"}),
    ({"checkpoint": checkpoint("internvl_c")}, {"train": "all", "recompute": True}),
    ({"checkpoint": checkpoint("pth"), "pool": "mean", "image_size": 28}, {"train": "all"}),
    ({"checkpoint": checkpoint("chat"), "pool": "cls", "layers": (1, 2)}, {"train": "1-1"}),
    ({"checkpoint": checkpoint("internvit", "300m"), "pool": "mean"}, {"train": "lora"}),
]


@pytest.mark.parametrize(("encoder", "options"), CASES)
def test_steps_lower_the_loss_and_the_saved_checkpoint_gives_what_was_trained(
    encoder: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    training = Training(InternViT(**encoder), **options, pictures=5)
    module = training.trainee.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    losses = training.losses()
    assert losses[-1] < losses[0]
    moved = {name for name, t in module.state_dict().items() if not torch.equal(t, before[name])}
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert moved <= trained
    assert {name for name in trained - moved if "k" not in name.split(".")[-2]} == set()
    training.trainee.save(tmp_path, module.state_dict())
    saved = rows_of(training.tuning.trained(training.encoder, tmp_path))
    with torch.no_grad():
        read = module.head(torch.from_numpy(np.stack([rows.mean(0) for rows in saved])))
    assert torch.allclose(read, training.logits(), rtol=0, atol=1e-5)
    assert set(Checkpoint(tmp_path)) == set(published(training.encoder.checkpoint))


def published(folder: str) -> list[str]:
    """Return the names of all weights but those of language models."""
    others = r"(language_model|mlp1|qllama|transformer|clip_projector2|itm_head)\..*"
    more = "query_tokens|text_projection|logit_scale"
    return [name for name in Checkpoint(Path(folder)) if not re.fullmatch(f"{others}|{more}", name)]


def test_without_a_trunk_a_training_has_the_same_logits_and_losses() -> None:
    encoder = InternViT(checkpoint=checkpoint())
    for train in ("projector", "head", "last-1", "1-1"):
        ways = [
            Training(encoder, train=train, cached=cached, pictures=5) for cached in (True, False)
        ]
        assert [way.rows is None for way in ways] == [False, True]
        weights = [sum(p.numel() for p in way.trainee.module.parameters()) for way in ways]
        assert weights[0] < weights[1]
        one, other = (way.losses() for way in ways)
        assert one == pytest.approx(other, abs=1e-5)
        assert torch.allclose(ways[0].logits(), ways[1].logits(), rtol=0, atol=1e-5)


def test_what_trains_from_the_first_block_on_has_no_trunk() -> None:
    encoder = InternViT(checkpoint=checkpoint("chat"), pool="cls", layers=(0, -1))
    found = [InternViTTuning(train=train).trunk(encoder) for train in ("all", "lora", "0-1", "2-2")]
    assert found == [None] * 4  # the embedding is one of the layers
    alone = InternViTTuning(train="2-2").trunk(encoder.model_copy(update={"layers": (-1,)}))
    assert alone is not None
    assert (alone.of.layers, alone.dim) == ((2,), 10 * 256)


def test_the_plan_counts_the_trunk_as_it_is_used() -> None:
    encoder = InternViT(checkpoint=checkpoint())
    cached, whole, half = (
        plan(InternViTTuning(**options), encoder, 3)
        for options in ({}, {"cached": False}, {"cached": False, "precision": "bfloat16"})
    )
    assert cached.trained == whole.trained == cached.parameters
    tower = sum(tensor.numel() for tensor in tiny.vision().values())
    assert whole.parameters == cached.parameters + tower
    assert cached.needs[0].optimiser == whole.needs[0].optimiser == 4 * cached.trained
    assert 0 < cached.needs[0].activations == whole.needs[0].activations
    assert half.needs[0].weights < whole.needs[0].weights - tower


def test_resized_positions_stay_as_they_are() -> None:
    encoder = InternViT(checkpoint=checkpoint("pth"), pool="cls", image_size=28)
    for size, trained in ((28, False), (None, True)):
        own = encoder.model_copy(update={"image_size": size})
        module = Training(own, train="all").trainee.module
        assert module.get_parameter(f"rows.tower.{POSITIONS}").requires_grad is trained


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ({}, {"train": "proj"}, "train: expected projector, all, head, lora, last-N"),
        ({"pool": "cls"}, {}, "needs `pool: clip_proj`, found `pool: cls`"),
        ({}, {"train": "25-47"}, "25-47: the network has 3 blocks, 0 to 2"),
    ],
)
def test_what_cannot_be_trained_is_said(
    encoder: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    own = InternViT(checkpoint=checkpoint(), **encoder)
    with pytest.raises(RunError, match=message):
        asked(own, **options).trunk(own)
    with pytest.raises(RunError, match=message):
        asked(own, **options, cached=False).prepare(own, 3)


def asked(encoder: InternViT, **options: Any) -> InternViTTuning:
    tuning = tuning_of(encoder, "tune", options)
    assert isinstance(tuning, InternViTTuning)
    return tuning


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a project of clips of three colours."""
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "weights")
    rows = ["id,split,label,video"]
    for number in range(9):
        write_mp4(tmp_path / f"{number}.mp4", [clip(number % 3, seed=number)], None)
        rows.append(f"s{number},train,{CLASSES[number % 3]},{number}.mp4")
    (tmp_path / "0.mp4").write_bytes(b"broken")
    rows.append("u,unlabelled,,1.mp4")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    use = "uses: internvit, inputs: {frames: video}, with: {checkpoint: weights}"
    (tmp_path / "registry.yaml").write_text(
        f"classes: [a, b, c]\nfolds: 3\nfeatures:\n  face: {{{use}}}\n"
        f"  half: {{{use}, dtype: bfloat16}}\n"
    )
    return tmp_path


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def test_a_table_of_what_is_trained_runs_the_trunk_once_and_is_that_without_it(
    project: Path,
) -> None:
    options = ["--with=epochs=1", "--with=batch=3", "--with=lr=5e-3", "--device=cpu"]
    vary = "--vary=train=projector,1-2,0-1,all"
    result = CliRunner().invoke(main, ["tune", "face", *options, vary, "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["varied"]["train"] for row in rows] == ["projector", "1-2", "0-1", "all"]
    assert all(set(row["failed"]) == {"s0"} for row in rows)

    opened = mercore.open(device="cpu")
    kept = {c.fingerprint: c for c in opened.store.collections("trunks")}
    assert len(kept) == 2  # of the projector and of 1-2; the others have none
    again = {"epochs": 1, "batch": 3, "lr": 5e-3, "pictures": 4}
    whole = job_of(opened, "face", {**again, "cached": False}, "whole")
    whole.run()
    trained = project / "runs/tune/face/train=projector"
    assert losses(project / "whole") == pytest.approx(losses(trained), abs=1e-5)
    other = job_of(opened, "face", {**again, "lr": 1e-3}, "other")
    assert other.trunk is not None
    assert set(other.trunk.kept().entries) == {f"s{number}" for number in range(9)}
    assert len(kept[other.trunk.node.fingerprint].notes()) == 1  # nothing was extracted again

    half = job_of(opened, "half", again, "half")
    assert half.trunk is not None
    exact, rounded = (job.trunk.kept()["s1"][0] for job in (other, half) if job.trunk)
    assert [str(row.dtype) for row in (exact, rounded)] == ["float32", "float16"]
    assert np.abs(exact - rounded).max() < 0.03 * np.abs(exact).max()
    assert rows_of(InternViT(checkpoint=str(trained / "checkpoint")))[0].shape == (3, 768)
