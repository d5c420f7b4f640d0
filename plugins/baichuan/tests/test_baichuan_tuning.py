"""`mer tune baichuan` and `mer pretrain baichuan`: the losses, what is trained, what is saved."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_baichuan
import torch
from plain_baichuan import hidden_states
from sentencepiece import SentencePieceProcessor

import mercore
from mercore.components import Inputs, Noted
from mercore.errors import InputError, RunError
from mercore.media import FloatArray, Text
from mercore.testing import TuningTests
from mercore.tuning import Trainee, Tuning
from mercore.tuning._plan import plan
from mercore.tuning.offers import tuning_of
from mercore.tuning.pretrain import Pretraining, pretrain
from mercore_baichuan import Baichuan, BaichuanPretraining, BaichuanTuning
from mercore_baichuan import _saving as saving

TEXTS = ("我太高兴了！", "Why did you leave me alone? 你为什么离开我？", "雨")
END = 2


@cache
def tiny(size: tiny_baichuan.Size = "13b", version: Literal[1, 2] = 1) -> Path:
    return tiny_baichuan.write(Path(tempfile.mkdtemp()), size=size, version=version)


def inputs(*texts: str) -> list[Inputs]:
    return [{"text": Text(text)} for text in texts]


def pretraining(**options: Any) -> BaichuanPretraining:
    return BaichuanPretraining(**{"tokens": 64, **options})


def trainee_of(tuning: Tuning, encoder: Baichuan) -> Any:
    torch.manual_seed(0)
    return tuning.prepare(encoder, 3)


def batch_of(trainee: Trainee, *texts: str, training: bool = False) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    return trainee.batch(
        [trainee.example(sample, random, training=training) for sample in inputs(*texts)]
    )


def loss_of(trainee: Trainee, *texts: str) -> torch.Tensor:
    found: dict[str, torch.Tensor] = trainee.module(**batch_of(trainee, *texts))
    if "loss" in found:
        return found["loss"]
    return torch.nn.functional.cross_entropy(found["logits"], torch.arange(len(texts)))


def train(trainee: Trainee, steps: int = 4) -> list[float]:
    """Train on one batch; return the losses."""
    groups = [{"params": group.parameters, "lr": 1e-2 * group.rate} for group in trainee.groups()]
    optimiser = torch.optim.AdamW(groups)
    trainee.module.train()
    losses = []
    for _ in range(steps):
        loss = loss_of(trainee, *TEXTS)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    trainee.module.eval()
    return losses


def features(checkpoint: Path, dtype: str = "float32", **options: Any) -> FloatArray:
    """Return what is kept of the texts, ``(texts, dim)``."""
    encoder = Baichuan(checkpoint=str(checkpoint), **options).load("cpu", dtype)
    found = [each.value if isinstance(each, Noted) else each for each in encoder(inputs(*TEXTS))]
    return np.stack([matrix.mean(axis=0) for matrix in found])


class TestBaichuanTuning(TuningTests):
    component = Baichuan(checkpoint=str(tiny()), pool="mean", layers=(-3, -1))
    tuning = BaichuanTuning()
    steps = 4


class TestBaichuanPretraining(TuningTests):
    component = Baichuan(checkpoint=str(tiny("7b", 2)))
    tuning = pretraining(train="all", norm_head=True)
    classes = 0
    steps = 4


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", ["7b", "13b"])
def test_the_loss_of_texts_is_the_cross_entropy_written_out_in_numpy(
    size: tiny_baichuan.Size, version: Literal[1, 2]
) -> None:
    config = tiny_baichuan.config_of(size, version)
    weights = tiny_baichuan.weights_of(config)
    rows = weights["lm_head.weight"].double().numpy()
    if version == 2:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    losses: list[float] = []
    processor = SentencePieceProcessor(model_proto=tiny_baichuan.tokenizer())
    for text in TEXTS:
        ids = [*processor.encode(text), END]
        logits = hidden_states(config, weights, ids)[-1][:-1] @ rows.T  # (tokens, vocabulary)
        sums = np.log(np.exp(logits).sum(axis=1))
        losses += (sums - logits[np.arange(len(logits)), ids[1:]]).tolist()
    tuning = pretraining(train="all", norm_head=version == 2)
    trainee = trainee_of(tuning, Baichuan(checkpoint=str(tiny(size, version))))
    assert loss_of(trainee, *TEXTS).item() == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"pool": "last", "chat": True, "prompt": "情感："}])
def test_the_head_reads_what_is_kept_of_the_texts(options: dict[str, Any]) -> None:
    trainee = trainee_of(BaichuanTuning(), Baichuan(checkpoint=str(tiny()), **options))
    logits = trainee.module(**batch_of(trainee, *TEXTS))["logits"]
    kept = torch.from_numpy(features(tiny(), **options))
    assert torch.allclose(logits, trainee.module.head(kept), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "tuning", "layers"),
    [
        ("13b", BaichuanTuning(train="all"), (-4, -1)),
        ("7b", BaichuanTuning(train="last-2"), (-3, -2)),
        ("7b", BaichuanTuning(train="lora", lora_layers="all"), (-1,)),
        ("13b", pretraining(train="lora"), (-4, -1)),
        ("7b", pretraining(train="1-2", norm_head=True), (-4, -1)),
    ],
    ids=lambda value: getattr(value, "train", None),
)
def test_steps_lower_the_loss_and_the_saved_checkpoint_gives_what_was_trained(
    size: tiny_baichuan.Size,
    tuning: BaichuanTuning | BaichuanPretraining,
    layers: Sequence[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Baichuan(checkpoint=str(tiny(size)), layers=tuple(layers))
    trainee = trainee_of(tuning, encoder)
    module = trainee.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    losses = train(trainee)
    assert losses[-1] < losses[0]
    moved = {name for name, t in module.state_dict().items() if not torch.equal(t, before[name])}
    assert moved <= {name for name, p in module.named_parameters() if p.requires_grad}
    assert any("layers" in name for name in moved)
    monkeypatch.setattr(saving, "SHARD", "100KB")
    trainee.save(tmp_path, module.state_dict())
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    saved = Baichuan(checkpoint=str(tmp_path), layers=tuple(layers))
    again = trainee_of(tuning.model_copy(update={"train": "all"}), saved)
    if isinstance(tuning, BaichuanTuning):  # the head is not saved
        again.module.head.load_state_dict(module.head.state_dict())
    wanted = loss_of(trainee, *TEXTS).item()
    assert loss_of(again, *TEXTS).item() == pytest.approx(wanted, abs=1e-5)
    assert not np.allclose(features(tmp_path), features(tiny(size)), atol=1e-3)


def test_pretraining_lowers_the_loss_and_its_checkpoint_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f's{n},unlabelled,,"{text}"' for n, text in enumerate(tiny_baichuan.SENTENCES * 2)]
    Path("manifest.csv").write_text(
        "\n".join(["id,split,label,text", *rows, 'blank,train,sad,"..."'])
    )
    Path("registry.yaml").write_text(
        "classes: [sad, happy]\nfeatures:\n  words: {uses: baichuan, inputs: {text: text},"
        f" with: {{checkpoint: '{tiny('13b', 2)}'}}}}\n"
    )
    pretraining = Pretraining.of_project(mercore.open(device="cpu"), "words", ["unlabelled"])
    options = {"batch": 4, "at_once": 2, "epochs": 3, "lr": 2e-2, "tokens": 16, "held_out": 0.2}
    scores = pretrain(pretraining, options, "run")
    assert (scores["found"], scores["trained_on"], scores["held_out"]) == (10, 8, 2)
    with Path("run/log.csv").open() as file:
        losses = [float(row["eval_loss"]) for row in csv.DictReader(file) if row["eval_loss"]]
    assert scores["loss"] == pytest.approx(min(losses), abs=1e-5)
    assert min(losses) < losses[0]
    assert scores["with"] == {"checkpoint": "run/checkpoint"}
    assert features(Path("run/checkpoint")).shape == (len(TEXTS), 40)
    # Tokens of a step count alike, however many of its texts are read at once.
    pretrain(pretraining, {**options, "epochs": 0.5, "at_once": 4}, "whole")
    with Path("whole/log.csv").open() as file:
        (first,) = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    with Path("run/log.csv").open() as file:
        assert float(next(csv.DictReader(file))["loss"]) == pytest.approx(first, abs=2e-6)


def test_what_is_frozen_is_bfloat16_and_what_is_trained_float32() -> None:
    tuning = pretraining(train="last-1", precision="bfloat16")
    trainee = trainee_of(tuning, Baichuan(checkpoint=str(tiny())))
    types = {(p.requires_grad, p.dtype) for p in trainee.module.parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    exact = trainee_of(pretraining(train="all"), Baichuan(checkpoint=str(tiny())))
    wanted = loss_of(exact, *TEXTS).item()
    assert loss_of(trainee, *TEXTS).item() == pytest.approx(wanted, rel=0.02)
    assert train(trainee)[-1] < wanted


def test_the_memory_of_lora_is_planned_with_its_weights_in_half_precision() -> None:
    encoder = Baichuan(checkpoint=str(tiny()))
    every = plan(BaichuanTuning(train="all", precision="bfloat16"), encoder, 3)
    lora = plan(BaichuanTuning(precision="bfloat16"), encoder, 3)
    assert lora.needs[0].weights < 0.7 * every.needs[0].weights
    assert lora.needs[0].optimiser < every.needs[0].optimiser / 10


def test_of_a_long_text_a_part_is_read_in_training_and_the_beginning_in_an_evaluation() -> None:
    trainee = trainee_of(pretraining(tokens=8), Baichuan(checkpoint=str(tiny())))
    (text,) = inputs(tiny_baichuan.SENTENCES[0])
    random = np.random.default_rng(0)
    whole = [*SentencePieceProcessor(model_proto=tiny_baichuan.tokenizer()).encode(
        tiny_baichuan.SENTENCES[0]), END]  # fmt: skip
    first, *parts = [
        trainee.example(text, random, training=training)["ids"].tolist()
        for training in (False, True, True, True)
    ]
    assert first == whole[:8]
    assert len({tuple(part) for part in parts}) > 1
    assert all(any(whole[at : at + 8] == part for at in range(len(whole))) for part in parts)


def test_wrong_options_and_empty_texts_are_refused() -> None:
    encoder = Baichuan(checkpoint=str(tiny()))
    with pytest.raises(RunError, match=r"train: .*features are made without a head, found 'head'"):
        tuning_of(encoder, "pretrain", {"train": "head"})
    with pytest.raises(RunError, match="last-6: the network has 5 blocks, 0 to 4"):
        trainee_of(BaichuanTuning(train="last-6"), encoder)
    with pytest.raises(RunError, match="tokens: 512: the checkpoint reads 64"):
        trainee_of(BaichuanPretraining(), encoder)
    trainee = trainee_of(BaichuanTuning(), encoder)
    with pytest.raises(InputError, match="the text is empty"):
        batch_of(trainee, " ")
