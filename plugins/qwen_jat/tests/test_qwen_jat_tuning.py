"""`mer tune qwen_jat`: the loss, what is trained, what is saved, and which clips are left out."""

from __future__ import annotations

import csv
import json
import tempfile
import wave
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import reference_qwen_jat as reference
import tiny_qwen_jat as tiny
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer

from mercore.cli import main
from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, RunError
from mercore.inputs import audio_of, text_of
from mercore.media import FloatArray, Text, Waveform
from mercore.nn import HiddenStates
from mercore.testing import TuningTests
from mercore.tuning import Trainee
from mercore.tuning._plan import plan
from mercore.tuning.offers import tuning_of
from mercore_qwen_jat import PROMPT, QwenJAT, QwenTuning
from mercore_qwen_jat import _saving as saving

RATE = 16_000
# Two begin with the same token, and one is the beginning of the other.
ANSWERS = {"angry": "the", "happy": "the hen", "sad": "你好"}
SPAN = "<|audio_bos|><|AUDIO|><|audio_eos|>"
TEXT = "The hen and the 你好 then!"


@cache
def folder(layout: tiny.Layout = "qwen_audio") -> Path:
    return tiny.write(Path(tempfile.mkdtemp()), layout)


@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of the pieces that both checkpoints have."""
    return Tokenizer.from_file(str(folder("qwen2_audio") / "tokenizer.json"))


def ids(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False).ids)


def sample(seconds: float, text: str = TEXT) -> Inputs:
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return {"audio": Waveform(samples.astype(np.float32), RATE), "text": Text(text)}


# Of odd and even numbers of frames, with texts of different lengths.
SAMPLES = (sample(0.5), sample(0.9, "the hen"), sample(0.31, ""))


def trainee_of(checkpoint: Path, encoder: QwenJAT | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"lora_rank": 4, "lora_dropout": 0.0, **options}
    if given.get("objective") != "head":
        given = {"words": ANSWERS, **given}
    return QwenTuning(**given).prepare(encoder or QwenJAT(checkpoint=str(checkpoint)), 3)


def batch_of(trainee: Trainee, *samples: Inputs) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    return trainee.batch([trainee.example(one, random, training=True) for one in samples])


def logits(trainee: Trainee, *samples: Inputs) -> torch.Tensor:
    trainee.module.eval()
    with torch.no_grad():
        found: torch.Tensor = trainee.module(**batch_of(trainee, *samples))["logits"]
    return found


def trained(trainee: Trainee, steps: int = 3) -> list[float]:
    """Train on one batch; return the losses."""
    batch, labels = batch_of(trainee, *SAMPLES), torch.tensor([0, 1, 2])
    groups = [{"params": group.parameters, "lr": 3e-3 * group.rate} for group in trainee.groups()]
    optimiser = torch.optim.AdamW(groups)
    trainee.module.train()
    losses = []
    for _ in range(steps):
        loss = trainee.loss(trainee.module(**batch)["logits"], labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


def features(checkpoint: Path, inputs: Inputs = SAMPLES[0], **options: Any) -> FloatArray:
    """Return the rows that are kept of a sample, ``(rows, dim)``."""
    (found,) = QwenJAT(checkpoint=str(checkpoint), **options).load("cpu", "float32")([inputs])
    return found.value if isinstance(found, Noted) else found


def close(found: torch.Tensor | FloatArray, expected: torch.Tensor) -> bool:
    return torch.allclose(torch.as_tensor(found), expected.float(), rtol=1e-5, atol=1e-5)


class TestWordTuning(TuningTests):
    component = QwenJAT(checkpoint=str(folder("qwen2_audio")))
    tuning = QwenTuning(words=ANSWERS, train="last-2")
    steps = 3


class TestHeadTuning(TuningTests):
    component = QwenJAT(checkpoint=str(folder()), layers=(-3, -2), pool="text")
    tuning = QwenTuning(objective="head")
    steps, lr = 3, 1e-4


# The loss


def second_loss(inputs: Inputs, word: str) -> float:
    """Return transformers' own loss of Qwen2-Audio on the answer, with all else left out."""
    network, processor = reference.second(str(folder("qwen2_audio")))
    samples, text = audio_of(inputs), text_of(inputs)
    read = processor(text=SPAN + text + PROMPT, audio=[samples], return_tensors="pt",
                     sampling_rate=RATE)  # fmt: skip
    answer = torch.tensor([[*ids(word), tokenizer().token_to_id("<|endoftext|>")]])
    given = torch.cat([read["input_ids"], answer], 1)
    labels = given.clone()
    labels[:, : -answer.shape[1]] = -100
    with torch.inference_mode():
        output = network(
            **{**read, "input_ids": given, "attention_mask": torch.ones_like(given)}, labels=labels
        )
    return float(output.loss)


def first_loss(inputs: Inputs, word: str) -> float:
    """Return the same of Qwen-Audio by its formulas."""
    weights = tiny.published("qwen_audio")
    table = weights["transformer.wte.weight"].double()
    span = reference.audio_rows(weights, tiny.QWEN_AUDIO, audio_of(inputs))
    answer = [*ids(word), tiny.RANKS]  # the first special token is <|endoftext|>
    read = [table[ids(part)] for part in (text_of(inputs), PROMPT, word)]
    states = reference.hidden_states(weights, tiny.QWEN_AUDIO, torch.cat([span, *read]))[-1]
    scores = (states @ weights["lm_head.weight"].double().T).log_softmax(-1)
    behind = scores[-len(answer) :]  # the end of the prompt, and the word
    return -float(behind[range(len(answer)), answer].mean())


@pytest.mark.parametrize("layout", ["qwen_audio", "qwen2_audio"])
def test_loss_and_probabilities_are_those_of_each_answer_alone(layout: tiny.Layout) -> None:
    loss_of = first_loss if layout == "qwen_audio" else second_loss
    wanted = torch.tensor([[loss_of(one, word) for word in ANSWERS.values()] for one in SAMPLES])
    trainee = trainee_of(folder(layout))
    found = logits(trainee, *SAMPLES)
    lengths = torch.tensor([len(ids(word)) + 1 for word in ANSWERS.values()])
    assert close(found, -wanted * lengths)
    labels = torch.tensor([2, 1, 0])
    loss = trainee.loss(found, labels)
    assert close(loss, wanted[range(3), labels].mean())
    weights = torch.tensor([2.0, 1.0, 0.0])
    weighed = (wanted[1, 1] + 2 * wanted[2, 0]) / 3
    assert close(trainee.loss(found, labels, weight=weights), weighed)


def test_in_the_chat_form_an_answer_ends_its_turn() -> None:
    chat = QwenJAT(checkpoint=str(folder("qwen2_audio")), template="chat")
    plain = QwenJAT(checkpoint=str(folder("qwen2_audio")))
    ends = [
        {word[-1] for word in trainee_of(folder(), encoder)._answers.words}
        for encoder in (chat, plain)
    ]
    assert ends == [{tokenizer().token_to_id(f"<|{end}|>")} for end in ("im_end", "endoftext")]


@pytest.mark.parametrize(("layout", "pool"), [("qwen_audio", "text"), ("qwen2_audio", "all")])
def test_the_head_reads_the_mean_of_what_is_kept(
    layout: tiny.Layout, pool: Literal["all", "text"]
) -> None:
    encoder = QwenJAT(checkpoint=str(folder(layout)), pool=pool)
    trainee = trainee_of(folder(layout), encoder, objective="head")
    kept = np.stack([features(folder(layout), one, pool=pool).mean(axis=0) for one in SAMPLES])
    with torch.no_grad():
        expected = trainee.module.head(torch.from_numpy(kept))
    assert close(logits(trainee, *SAMPLES), expected)


# What is trained and saved


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("qwen_audio", {"train": "all"}),
        ("qwen2_audio", {"train": "all", "audio": False}),
        ("qwen2_audio", {"train": "lora"}),
        ("qwen_audio", {"train": "1-2", "objective": "head"}),
    ],
)
def test_steps_lower_the_loss_and_the_saved_checkpoint_gives_what_was_trained(
    layout: tiny.Layout, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee = trainee_of(folder(layout), **options)
    module = trainee.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    losses = trained(trainee)
    assert losses[-1] < losses[0]
    moved = {name for name, t in module.state_dict().items() if not torch.equal(t, before[name])}
    assert moved <= {name for name, p in module.named_parameters() if p.requires_grad}
    assert any(".layers." in name for name in moved)
    heard = {name for name in moved if "encoder" in name or "markers" in name}
    assert bool(heard) == (options == {"train": "all"})
    monkeypatch.setattr(saving, "SHARD", "100KB")
    trainee.save(tmp_path, module.state_dict())
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    llm = module.network.model.llm
    states = HiddenStates(llm.layers, (2, 3, 4, 5), "mean", depth=5, final=llm.norm)
    wanted = logits(trainee, SAMPLES[0])
    kept = features(tmp_path)
    assert close(kept, states.take()[0, : len(kept)])
    assert not np.allclose(kept, features(folder(layout)), atol=1e-2)
    again = trainee_of(tmp_path, **{**options, "train": "all"})
    if "objective" in options:  # the head is not saved
        again.module.head.load_state_dict(module.head.state_dict())
    assert close(logits(again, SAMPLES[0]), wanted)


def test_what_is_frozen_is_bfloat16_and_what_is_trained_float32() -> None:
    trainee = trainee_of(folder(), train="last-1", precision="bfloat16")
    types = {(p.requires_grad, p.dtype) for p in trainee.module.parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    exact = logits(trainee_of(folder()), *SAMPLES)
    assert torch.allclose(logits(trainee, *SAMPLES), exact, rtol=0.05, atol=0.5)
    losses = trained(trainee, 2)
    assert losses[-1] < losses[0]


def test_the_memory_of_lora_is_less_than_that_of_all() -> None:
    encoder = QwenJAT(checkpoint=str(folder()))
    every, lora = (
        plan(QwenTuning(words=ANSWERS, lora_rank=4, train=train), encoder, 3)
        for train in ("all", "lora")
    )
    assert lora.needs[0].optimiser < every.needs[0].optimiser / 5
    assert 0 < lora.needs[0].activations < every.needs[0].activations


# In a project


def write_project(place: Path) -> None:
    """Write twelve clips of two classes; of s0 all samples are zero, s2 and s4 are at -66 dB."""
    rows = ["id,split,label,audio,text"]
    for number in range(12):
        loudness = {0: 0.0, 2: 7e-4, 4: 7e-4}.get(number, 0.3)
        tone = loudness * np.sin(2 * np.pi * (200, 2_000)[number % 2] * np.arange(8_000) / RATE)
        with wave.open(str(place / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((tone * 2**15).astype(np.int16).tobytes())
        rows.append(f"s{number},train,{('calm', 'loud')[number % 2]},{number}.wav,the hen")
    (place / "manifest.csv").write_text("\n".join(rows) + "\n")
    (place / "registry.yaml").write_text(
        "classes: [calm, loud]\nfolds: 3\nfeatures:\n  jat: {uses: qwen_jat, inputs: {audio: audio,"
        f" text: text}}, with: {{checkpoint: '{folder('qwen2_audio')}'}}}}\n"
    )


def test_full_and_lora_are_compared_without_silent_clips_and_their_checkpoints_are_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ("epochs=2", "batch=4", "lr=3e-3", "lora_rank=4", "words={calm: the}")
    given = [f"--with={option}" for option in options]
    command = ["tune", "jat", "--device=cpu", "--vary=train=all,lora", *given]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[-2:]] == ["all", "lora"]
    for name in ("all", "lora"):
        run = Path("runs/tune/jat", f"train={name}")
        scores = json.loads((run / "metrics.json").read_text())
        lines = (run / "left_out.jsonl").read_text().splitlines()
        left_out = {json.loads(line)["sample"] for line in lines}
        assert scores["left_out"] == {"silent": len(left_out)}
        assert left_out == {"s0", "s4"}  # s2 is held out
        assert scores["samples"] == 4
        about = json.loads((run / "tuning.json").read_text())
        assert about["options"]["words"] == {"calm": "the", "loud": "loud"}
        with (run / "log.csv").open() as file:
            found = [row["eval_loss"] for row in csv.DictReader(file)]
        losses = [float(loss) for loss in found if loss]
        assert losses[-1] < losses[0]
        assert features(run / "checkpoint").shape[1] == 64
    assert scores["trained"] < scores["parameters"] / 2


# What goes wrong


def test_options_and_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder = QwenJAT(checkpoint=str(folder()))
    with pytest.raises(RunError, match="train: head needs objective: head"):
        tuning_of(encoder, "tune", {"train": "head"})
    with pytest.raises(RunError, match="smoothing needs objective: head"):
        tuning_of(encoder, "tune", {"smoothing": 0.1})
    with pytest.raises(RunError, match="words needs objective: word"):
        tuning_of(encoder, "tune", {"objective": "head", "words": ANSWERS})
    with pytest.raises(RunError, match="words: no class 'anger'; did you mean 'angry'"):
        QwenTuning(words={"anger": "x"}).learning(["angry", "sad"])
    with pytest.raises(RunError, match="words: 'sad' has no word"):
        QwenTuning(words={"sad": " "}).learning(["angry", "sad"])
    with pytest.raises(RunError, match="'angry' and 'sad' have the same word, 'x'"):
        QwenTuning(words={"angry": "x", "sad": "x"}).learning(["angry", "happy", "sad"])
    with pytest.raises(RunError, match="words: has 3, expected one for each of 4 classes"):
        QwenTuning(words=ANSWERS).prepare(encoder, 4)
    with pytest.raises(RunError, match="last-6: the network has 5 blocks, 0 to 4"):
        trainee_of(folder(), train="last-6")
    bare = tiny.write(tmp_path, shards=0)
    weights = tiny.published("qwen_audio")
    del weights["lm_head.weight"]
    tiny.save(bare, weights)
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        trainee_of(bare)


@pytest.mark.parametrize(
    ("silent", "loudness", "found"),
    [
        (-60.0, 0.0, "silent"),
        (-60.0, 9e-4, "silent"),
        (-60.0, 1.1e-3, None),
        (-20.0, 0.09, "silent"),
    ],
)
def test_clips_are_silent_by_the_root_mean_square_of_all_of_them(
    silent: float, loudness: float, found: str | None
) -> None:
    check = QwenTuning(silent=silent).leaves_out()
    assert check is not None
    samples = np.tile(np.array([loudness, -loudness], np.float32), 8_000)
    assert check({"audio": Waveform(samples, RATE), "text": Text("")}) == found
    assert QwenTuning(silent=None).leaves_out() is None
