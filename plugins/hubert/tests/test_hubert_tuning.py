"""`mer tune hubert`: what is trained, what it gives, and what is saved."""

from __future__ import annotations

import sys
import tempfile
import wave
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_hubert as tiny
import torch
from hubert_reference import Reference, encode, inputs, sound, zero_mean
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import HubertModel

import mercore
from mercore.errors import CheckpointError, RunError
from mercore.testing import TuningTests
from mercore.tuning import Trainee
from mercore.tuning._plan import plan
from mercore.tuning.offers import tuning_of
from mercore.tuning.tune import job_of
from mercore_hubert import Hubert, HubertTuning
from mercore_hubert._network import filled
from mercore_hubert._published import published
from mercore_hubert._tuning import spans

CLIPS = [sound(samples, seed) for seed, samples in enumerate((1_500, 4_000, 3_000))]
KINDS: tuple[tiny.Kind, ...] = ("large", "base")


@cache
def folder(kind: tiny.Kind) -> Path:
    return tiny.write(Path(tempfile.mkdtemp()), kind)


def trainee_of(checkpoint: Path, encoder: Hubert | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    tuning = HubertTuning(**{"dropout": 0.0, **options})
    return tuning.prepare(encoder or Hubert(checkpoint=str(checkpoint)), 3)


def batch_of(trainee: Trainee, *, training: bool = False) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    return trainee.batch(
        [trainee.example(sample, random, training=training) for sample in inputs(*CLIPS)]
    )


def logits(trainee: Trainee) -> torch.Tensor:
    trainee.module.eval()
    with torch.no_grad():
        found: torch.Tensor = trainee.module(**batch_of(trainee))["logits"]
    return found


def trained(trainee: Trainee, steps: int = 4) -> list[float]:
    """Train on one batch; return the losses."""
    batch, labels = batch_of(trainee, training=True), torch.tensor([0, 1, 2])
    groups = [{"params": group.parameters, "lr": 1e-3 * group.rate} for group in trainee.groups()]
    optimiser = torch.optim.SGD(groups, momentum=0.9)
    trainee.module.train()
    losses = []
    for _ in range(steps):
        loss = cross_entropy(trainee.module(**batch)["logits"], labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


class TestHubertTuning(TuningTests):
    component = Hubert(checkpoint=str(folder("large")))
    tuning = HubertTuning(mask=0.2, seconds=0.2, train="last-1")
    steps = 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_reads_what_the_clips_give_alone_in_another_implementation(
    kind: tiny.Kind,
) -> None:
    trainee = trainee_of(folder(kind))
    reference = Reference(kind, tiny.tensors(kind))
    heard = [zero_mean(clip) if kind == "large" else torch.from_numpy(clip) for clip in CLIPS]
    features = torch.stack([torch.from_numpy(reference.features(each)).mean(0) for each in heard])
    assert torch.allclose(logits(trainee), trainee.module.head(features), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("large", {"train": "all", "mask": 0.3}),
        ("base", {"train": "all", "convolutions": True, "recompute": True}),
        ("base", {"train": "last-2"}),
        ("large", {"train": "lora", "lora_layers": "all"}),
    ],
)
def test_steps_lower_the_loss_and_the_saved_checkpoint_gives_what_was_trained(
    kind: tiny.Kind, options: dict[str, Any], tmp_path: Path
) -> None:
    trainee = trainee_of(folder(kind), **options)
    module = trainee.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    losses = trained(trainee)
    assert losses[-1] < losses[0]
    moved = {name for name, t in module.state_dict().items() if not torch.equal(t, before[name])}
    assert moved <= {name for name, p in module.named_parameters() if p.requires_grad}
    assert any("layers" in name for name in moved)
    trainee.save(tmp_path, module.state_dict())
    features = np.stack([encode(tmp_path, clip).mean(axis=0) for clip in CLIPS])
    with torch.no_grad():
        read = trainee.module.head(torch.from_numpy(features))
    assert torch.allclose(read, logits(trainee), rtol=0, atol=1e-5)


# peft asks transformers for it.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_what_lora_adds_is_saved_as_peft_reads_it_too(tmp_path: Path) -> None:
    trainee = trainee_of(folder("large"), train="lora", lora_rank=2, lora_alpha=6)
    trained(trainee)
    trainee.save(tmp_path, trainee.module.state_dict())
    adapted = PeftModel.from_pretrained(whole(folder("large")), tmp_path / "adapter")
    before, own, merged = (
        network(torch.from_numpy(CLIPS[0])[None]).last_hidden_state
        for network in (whole(folder("large")), adapted.eval(), whole(tmp_path))
    )
    assert torch.allclose(own, merged, rtol=0, atol=1e-5)
    assert not torch.allclose(own, before, rtol=0, atol=1e-3)


def whole(checkpoint: Path) -> HubertModel:
    """Return transformers' network with all its blocks."""
    found = published(str(checkpoint))
    depth = found.config.num_hidden_layers
    model: HubertModel = filled(found, depth, device="cpu", dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def test_of_a_fairseq_file_blocks_behind_the_features_are_saved_as_they_were(
    tmp_path: Path,
) -> None:
    file = tiny.write_fairseq(tmp_path / "hubert.pt", tiny.fairseq(tiny.tensors("large"), "large"))
    encoder = Hubert(checkpoint=str(file), layers=(-3, -4))
    trainee = trainee_of(file, encoder)
    trained(trainee)
    saved = tmp_path / "saved"
    saved.mkdir()
    trainee.save(saved, trainee.module.state_dict())
    features = encode(saved, CLIPS[0], layers=(-3, -4)).mean(axis=0)
    with torch.no_grad():
        read = trainee.module.head(torch.from_numpy(features))
    assert torch.allclose(read, logits(trainee)[0], rtol=0, atol=1e-5)
    assert len(encode(saved, CLIPS[0], layers=(-1,))) == len(encode(file, CLIPS[0], layers=(-1,)))


def test_training_hears_a_part_of_a_long_clip_and_an_evaluation_all_of_it() -> None:
    trainee = trainee_of(folder("large"), seconds=0.1)
    random = np.random.default_rng(0)
    (long,) = inputs(CLIPS[1])
    parts = [trainee.example(long, random, training=True)["audio"] for _ in range(2)]
    assert [len(part) for part in parts] == [1_600, 1_600]
    assert not np.array_equal(parts[0], parts[1])
    assert len(trainee.example(long, random, training=False)["audio"]) == 4_000


def test_about_the_share_of_frames_is_masked_in_spans() -> None:
    masked = np.stack([spans(500, 0.2, np.random.default_rng(seed)) for seed in range(50)])
    assert 0.15 < masked.mean() < 0.2
    assert spans(3, 0.9, np.random.default_rng(0)).shape == (3,)


def test_the_memory_of_lora_is_less_than_that_of_all() -> None:
    encoder = Hubert(checkpoint=str(folder("base")))
    every, lora = (plan(HubertTuning(train=train), encoder, 3) for train in ("all", "lora"))
    assert lora.needs[0].optimiser < every.needs[0].optimiser / 10
    assert lora.needs[0].activations > 0


def test_tuning_in_a_project_lowers_the_loss_and_its_checkpoint_is_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write(tmp_path / "weights", "base")
    rows = ["id,split,label,audio"]
    for number in range(12):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((sound(4_000, number % 2) * 2**15).astype(np.int16).tobytes())
        rows.append(f"s{number},train,{'ab'[number % 2]},{number}.wav")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "registry.yaml").write_text(
        "classes: [a, b]\nfolds: 3\n"
        "features: {voice: {uses: hubert, inputs: {audio: audio}, with: {checkpoint: weights}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    options = {"epochs": 6, "lr": 1e-2, "train": "lora", "warmup": 0.0}
    job = job_of(mercore.open(device="cpu"), "voice", options, "run")
    scores = job.run()
    assert scores["waf"] == 1.0
    encoder = job.tuning.trained(job.encoder, job.folder.checkpoint)
    (frames,) = encoder.load("cpu", "float32")(inputs(CLIPS[0]))
    assert isinstance(frames, np.ndarray)
    assert frames.shape == (4, tiny.WIDTH)


def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Hubert(checkpoint=str(folder("large")))
    with pytest.raises(RunError, match=r"train: .*expected all, head, lora, last-N"):
        tuning_of(encoder, "tune", {"train": "last"})
    with pytest.raises(RunError, match="convolutions: true needs train: all, found train: lora"):
        tuning_of(encoder, "tune", {"train": "lora", "convolutions": True})
    with pytest.raises(RunError, match="last-30: the network has 6 blocks, 0 to 5"):
        trainee_of(folder("large"), train="last-30")
    unmasked = {name: t for name, t in tiny.tensors("base").items() if name != "masked_spec_embed"}
    bare = tiny.write_safetensors(tmp_path, "base", unmasked)
    with pytest.raises(CheckpointError, match="no embedding of masked frames"):
        trainee_of(bare, mask=0.05)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RunError, match=r"`train: lora` needs peft.*mercore\[tune\]"):
        trainee_of(folder("large"), train="lora")
