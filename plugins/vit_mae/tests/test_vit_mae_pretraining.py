"""Pre-training: the network against transformers' own, what an example is, and a whole training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vit_mae as tiny
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import ViTMAEForPreTraining
from vit_mae_cases import clip

from mercore.cli import main
from mercore.components import Encoder
from mercore.errors import CheckpointError, RunError
from mercore.testing import TuningTests
from mercore.tuning import Trainee
from mercore.tuning.offers import tuning_of
from mercore_vit_mae import VitMAE, VitPretraining
from mercore_vit_mae._masked import positions
from mercore_vit_mae._pretraining import VitPretrainee, part_of

DECODER = {"decoder_dim": tiny.WIDER, "decoder_depth": tiny.BLOCKS, "decoder_heads": 2}
SMALL_DECODER: dict[str, Any] = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}
SMALL = {"size": "tiny", "depth": 2, "side": 32, "patch": 8, **SMALL_DECODER}


class TestPretraining(TuningTests):
    component = VitMAE()
    tuning = VitPretraining.model_validate(SMALL)
    classes = 0
    lr = 1e-3

    @classmethod
    def setup_class(cls) -> None:
        """The encoder's own checkpoint is not read."""

    def _same_weights(self, trainee: Trainee, again: Encoder) -> None:
        assert isinstance(again, VitMAE)
        self.tuning = VitPretraining(start=again.checkpoint, **SMALL_DECODER)
        super()._same_weights(trainee, again)


def trainee(**options: Any) -> VitPretrainee:
    torch.manual_seed(0)
    found = VitPretraining(**options).prepare(VitMAE(), 0)
    assert isinstance(found, VitPretrainee)
    return found


def batch(of: Trainee, *, training: bool = False) -> dict[str, Tensor]:
    examples = [
        of.example({"frames": clip(3, seed)}, np.random.default_rng(seed), training=training)
        for seed in range(3)
    ]
    return of.batch(examples)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_loss_and_predictions_are_those_of_transformers(
    tmp_path: Path, library: tiny.Library, normalise: bool
) -> None:
    load: Any = ViTMAEForPreTraining.from_pretrained
    reference = load(tiny.write(tmp_path / "t"), layer_norm_eps=1e-6, norm_pix_loss=normalise)
    start = tiny.write(tmp_path / "s", library)
    own = trainee(start=str(start), normalise=normalise, **DECODER)
    given = batch(own)
    with torch.no_grad():
        found = own.module.eval()(**given)
        expected = reference.eval()(pixel_values=given["pictures"], noise=given["noise"])
    assert found["hidden"].equal(expected.mask)
    assert float((found["predictions"] - expected.logits).abs().max()) < 1e-5
    assert float(found["loss"]) == pytest.approx(float(expected.loss), rel=1e-5)


def test_a_checkpoint_without_a_decoder_gets_a_new_one(tmp_path: Path) -> None:
    start = str(tiny.write(tmp_path, "timm", decoder=False))
    one, other = trainee(start=start, **DECODER), trainee(start=start, **DECODER)
    assert one.module.decoder.decoder_pred.weight.equal(other.module.decoder.decoder_pred.weight)
    own, given = one.module.vit.state_dict(), tiny.encoder()
    assert all(own[name].equal(given[name]) for name in given)


def test_checkpoints_that_cannot_be_gone_on_with_are_refused(tmp_path: Path) -> None:
    start = str(tiny.write(tmp_path / "whole", "timm"))
    with pytest.raises(CheckpointError, match=r"not as decoder_dim and decoder_depth say: .*whole"):
        trainee(start=start, **{**DECODER, "decoder_dim": 32})
    tuned = tmp_path / "tuned"
    tiny.write(tuned, "timm", decoder=False)
    save_file(tiny.finetuned(), tuned / "model.safetensors")
    with pytest.raises(CheckpointError, match="was fine-tuned on the mean"):
        trainee(start=str(tuned), **DECODER)


def test_places_are_sines_and_cosines_of_column_and_row() -> None:
    found = positions(torch.empty(1, 1 + 9, 16))[0]
    assert not found[0].any()
    waves = 10_000 ** -(np.arange(4) / 4)
    for patch, (row, column) in enumerate(np.ndindex(3, 3)):
        of = [
            np.sin(column * waves),
            np.cos(column * waves),
            np.sin(row * waves),
            np.cos(row * waves),
        ]
        assert found[1 + patch].numpy() == pytest.approx(np.concatenate(of), abs=1e-6)


def test_an_example_is_drawn_from_the_numbers_given() -> None:
    own = trainee(**SMALL)
    media = {"frames": clip(3)}
    first, again, other = (
        own.example(media, np.random.default_rng(seed), training=True) for seed in (1, 1, 2)
    )
    for name in ("picture", "noise"):
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    # An evaluation draws the mask alone.
    one, two = (own.example(media, np.random.default_rng(seed), training=False) for seed in (1, 2))
    assert np.array_equal(one["picture"], two["picture"])
    assert not np.array_equal(one["noise"], two["noise"])
    hidden = own.module(**batch(own))["hidden"]
    assert hidden.sum(1).tolist() == [12, 12, 12]  # of 16


def test_a_part_has_the_area_and_shape_that_were_asked_for() -> None:
    # The colours of a picture say where a pixel comes from.
    down, right = np.mgrid[0:200, 0:250]
    pixels = np.stack([down, right, 0 * down], axis=2).astype(np.uint8)
    areas = []
    for seed in range(50):
        part = part_of(pixels, 100, (0.2, 0.5), np.random.default_rng(seed)).astype(float)
        high, wide = (np.ptp(part[..., axis]) * 100 / 99 for axis in (0, 1))
        areas.append(high * wide / (200 * 250))
        assert 0.7 < wide / high < 1.4
    assert 0.18 < min(areas) < 0.25
    assert 0.4 < max(areas) < 0.52
    narrow = part_of(pixels[:, :20], 10, (0.9, 1.0), np.random.default_rng(0))
    assert np.ptp(narrow[..., 0].astype(int)) < 20  # its centre square


def test_recomputing_changes_no_gradient() -> None:
    def gradient(recompute: bool) -> Any:
        own = trainee(**SMALL, recompute=recompute)
        own.module(**batch(own))["loss"].backward()
        return own.module.vit.patch_embed.proj.weight.grad

    assert torch.allclose(gradient(True), gradient(False), atol=1e-7)


def test_the_learning_rate_follows_the_batch() -> None:
    assert {group.rate for group in trainee(**SMALL, batch=256).groups()} == {0.25}
    assert {group.rate for group in trainee(**SMALL, batch=256, lr_batch=None).groups()} == {1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 100}, "patch 16 does not divide side 100"),
        ({"decoder_heads": 3}, "decoder_heads 3 does not divide decoder_dim 512"),
        ({"area": [0.5, 0.2]}, r"area \[0.5, 0.2\]: expected two shares, the least one first"),
        ({"start": "x", "size": "tiny"}, "size: goes with start: scratch only"),
        ({"masks": 0.5}, "no option 'masks'; did you mean 'mask'?"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        tuning_of(VitMAE(), "pretrain", options)


def test_a_training_on_pictures_lowers_the_loss_and_its_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for seed in range(17):
        Image.fromarray(clip(1, seed, 40, 40).pixels[0]).save(tmp_path / f"faces/{seed}.png")
    (tmp_path / "faces" / "17.png").write_text("no picture")
    options = {**SMALL, "batch": 8, "lr": 5e-3, "lr_batch": 8, "epochs": 3, "smallest": 30}
    pairs = [f"--with={name}={value}" for name, value in options.items()]
    out = tmp_path / "out"
    command = [
        "pretrain",
        "vit_mae",
        "--images",
        str(tmp_path / "faces"),
        "--out",
        str(out),
        *pairs,
    ]
    run = CliRunner().invoke(main, [*command, "--device", "cpu", "--json"])
    assert run.exit_code == 0, run.output
    about = json.loads(run.stdout)
    assert {why: count for why, count in about["left_out"].items() if count} == {"unreadable": 1}
    assert (about["trained_on"], about["held_out"]) == (16, 1)
    with (out / "log.csv").open() as file:
        losses = [float(row["eval_loss"]) for row in csv.DictReader(file) if row["eval_loss"]]
    assert losses[0] > losses[-1] == about["loss"]

    checkpoint = about["with"]["checkpoint"]
    read = VitMAE(checkpoint=checkpoint).load("cpu", "float32")([{"frames": clip(2)}])[0]
    own = trainee(start=checkpoint, **SMALL_DECODER)
    shown = own.batch([
        own.example({"frames": clip(2)}, np.random.default_rng(0), training=False)
    ])  # fmt: skip
    with torch.no_grad():
        tokens = own.module.vit.eval().forward_features(shown["pictures"])
    assert np.asarray(read)[1] == pytest.approx(tokens[0, 1:].mean(0).numpy(), abs=1e-5)
