"""Fine-tuning on labels: what an example is, layer decay, mixup, and a whole training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vit_mae as tiny
import torch
from PIL import Image
from timm.optim._param_groups import param_groups_layer_decay
from torch.nn.functional import cross_entropy
from vit_mae_cases import clip

import mercore
from mercore.errors import RunError
from mercore.testing import TuningTests
from mercore.tuning import Trainee
from mercore.tuning._trainer import mixed
from mercore.tuning.offers import tuning_of
from mercore.tuning.tune import tune
from mercore_vit_mae import VitMAE, VitPretraining, VitTuning
from mercore_vit_mae._network import Published
from mercore_vit_mae._tuning import VitTrainee


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write(tmp_path_factory.mktemp("tiny"), "timm", decoder=False))


class TestTuning(TuningTests):
    tuning = VitTuning(drop_path=0)
    lr = 1e-3

    @pytest.fixture(autouse=True)
    def _component(self, checkpoint: str) -> None:
        type(self).component = VitMAE(checkpoint=checkpoint)

    @classmethod
    def setup_class(cls) -> None:
        """The checkpoint is written by a fixture."""


def trainee(checkpoint: str, **options: Any) -> VitTrainee:
    torch.manual_seed(0)
    return VitTrainee(VitMAE(checkpoint=checkpoint), VitTuning(**options), 3, weights=True)


def example(of: Trainee, frames: int, *, training: bool, seed: int = 0) -> Any:
    media = {"frames": clip(frames, seed)}
    return of.example(media, np.random.default_rng(seed), training=training)


def test_clips_become_grids_and_still_images_stay_single(checkpoint: str) -> None:
    own = trainee(checkpoint, grid=2, flip=0)
    still = example(own, 1, training=True)["pictures"]
    grid = example(own, 4, training=True)["pictures"]
    assert still.shape == grid.shape == (1, 224, 224, 3)
    single = trainee(checkpoint, flip=0)
    assert np.array_equal(still, example(single, 1, training=True)["pictures"])
    frame = Image.fromarray(clip(4).pixels[0]).resize((112, 112), Image.Resampling.BICUBIC)
    assert np.array_equal(grid[0, :112, :112], np.asarray(frame))


def test_an_evaluation_takes_the_mean_of_a_few_pictures(checkpoint: str) -> None:
    own = trainee(checkpoint, pictures=4)
    clips = [example(own, count, training=False, seed=count) for count in (1, 9)]
    assert [len(each["pictures"]) for each in clips] == [1, 4]
    module = own.module.eval()
    with torch.no_grad():
        together = module(**own.batch(clips))["logits"]
        alone = [
            module(**own.batch([{"pictures": picture[None]}]))["logits"]
            for picture in clips[1]["pictures"]
        ]
    assert together.shape == (2, 3)
    assert torch.allclose(together[1], torch.cat(alone).mean(0), atol=1e-5)


def test_layer_decay_is_that_of_timm(checkpoint: str) -> None:
    own = trainee(checkpoint, layer_decay=0.5, weight_decay=0.1)
    named = {id(p): name.removeprefix("vit.") for name, p in own.module.named_parameters()}
    found = {
        named[id(p)]: (group.rate, group.decays) for group in own.groups() for p in group.parameters
    }
    # The same network as timm builds it, which has the head inside.
    vit: Any = own.module.vit
    vit.fc_norm, vit.head = own.module.fc_norm, own.module.head
    names = {id(p): name for name, p in vit.named_parameters()}
    groups = param_groups_layer_decay(
        vit, 0.1, no_weight_decay_list=vit.no_weight_decay(), layer_decay=0.5
    )
    expected = {
        names[id(p)]: (group["lr_scale"], group["weight_decay"] > 0)
        for group in groups
        for p in group["params"]
    }
    assert found == expected


def test_mixup_mixes_pictures_and_classes_alike(checkpoint: str) -> None:
    own = trainee(checkpoint, mixup=0.8, flip=0)
    examples = [example(own, 1, training=True, seed=seed) for seed in range(3)]
    batch = own.batch(examples)
    plain = trainee(checkpoint, flip=0).batch(examples)
    shares = batch["shares"]
    assert sorted(shares.tolist()) == sorted(set(shares.tolist()))
    first = shares[0] * plain["pictures"][0] + (1 - shares[0]) * plain["pictures"][2]
    assert torch.allclose(batch["pictures"][0], first, atol=1e-6)
    labels = mixed(torch.tensor([0, 1, 2]), shares, 3)
    share = shares[0].item()
    assert labels[0].tolist() == pytest.approx([share, 0, 1 - share])
    assert labels.sum(1).tolist() == pytest.approx([1, 1, 1])
    assert "shares" not in own.batch([example(own, 1, training=False)])
    assert float(cross_entropy(torch.zeros(3, 3), labels)) == pytest.approx(np.log(3))


def test_colours_that_a_checkpoint_names_are_saved_with_what_was_trained(tmp_path: Path) -> None:
    start = tiny.write(tmp_path / "start")
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    tiny.dump(start / "preprocessor_config.json", {**tiny.PREPROCESSOR, **colours})
    encoder = VitMAE(checkpoint=str(start))
    pretraining = VitPretraining(start=str(start), decoder_dim=16, decoder_depth=2, decoder_heads=2)
    for number, tuning in enumerate((VitTuning(), pretraining)):
        trained, folder = tuning.prepare(encoder, 3), tmp_path / str(number)
        folder.mkdir()
        trained.save(folder, trained.module.state_dict())
        found = Published(VitMAE(checkpoint=str(folder)))
        assert (found.told.mean, found.told.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        assert found.sizes.side == tiny.SIDE


def test_dropped_paths_are_more_the_deeper_a_block_lies(checkpoint: str) -> None:
    drops = [
        part.drop_prob
        for part in trainee(checkpoint, drop_path=0.2).module.modules()
        if type(part).__name__ == "DropPath"
    ]
    assert drops == pytest.approx([0.1, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 15}, "grid: Input should be less than or equal to 14, found 15"),
        ({"layer_decay": 0}, "layer_decay: Input should be greater than 0"),
        ({"mix_up": 1}, "no option 'mix_up'; did you mean 'mixup'?"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        tuning_of(VitMAE(), "tune", options)


def test_a_training_on_grids_learns_colours_and_its_features_are_those_of_the_network(
    checkpoint: str, tmp_path: Path
) -> None:
    write_project(tmp_path, checkpoint)
    project = mercore.open(
        tmp_path / "registry.yaml", manifest=tmp_path / "manifest.csv", store=tmp_path / "s.zarr",
        out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    options = {"epochs": 5, "batch": 4, "lr": 2e-3, "mixup": 0.2, "grid": 2, "drop_path": 0}
    about = tune(project, "vit", options, tmp_path / "out")
    assert about["samples"] == 4
    assert float(str(about["waf"])) > 0.9
    read = VitMAE.model_validate(about["with"])
    assert read.grid == 2
    features = read.load("cpu", "float32")([{"frames": clip(4)}])[0]
    own = trainee(read.checkpoint, grid=2)
    batch = own.batch([example(own, 4, training=False)])
    behind: list[torch.Tensor] = []
    own.module.fc_norm.register_forward_hook(lambda _m, _i, output: behind.append(output))
    own.module.eval()(**batch)
    assert np.asarray(features) == pytest.approx(behind[0].detach().numpy(), abs=1e-5)


def write_project(folder: Path, checkpoint: str) -> None:
    """Write still images of three colours."""
    random = np.random.default_rng(0)
    lines = ["id,split,label,video"]
    for number in range(12):
        colour = np.eye(3)[number % 3] * 120 + 60
        pixels = (colour + random.normal(0, 20, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"s{number},train,{'abc'[number % 3]},{number}.png")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "registry.yaml").write_text(
        "classes: [a, b, c]\nfolds: 3\nfeatures:\n"
        f"  vit: {{uses: vit_mae, inputs: {{frames: video}}, with: {{checkpoint: {checkpoint}}}}}\n"
    )
