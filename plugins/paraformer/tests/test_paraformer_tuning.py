"""`mer tune paraformer`: rounds of self-training by FunASR's trainer."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_paraformer as tiny
import torch
from click.testing import CliRunner, Result
from paraformer_reference import RATE, expected, heard, sound, text_of
from tiny_noise import write_noise, write_wav

from mercore.cli import main
from mercore.cli.signals import Stopped, stoppable
from mercore.errors import RunError
from mercore.media import FloatArray
from mercore.tuning import Note, Recogniser, UnfitError, Utterance
from mercore.tuning._utterances import error_rate
from mercore_paraformer import Paraformer
from mercore_paraformer.tuning import ParaformerTuning

torch.set_num_threads(1)

REGISTRY = """\
classes: [a, b]
streams:
  transcript: {uses: paraformer, inputs: {audio: audio}, with: {checkpoint: weights}}
features: {voice: {uses: prosody, inputs: {audio: audio}}}
"""
QUICK = ("epochs=3", "lr=3e-3", "warmup=4", "batch=20", "held_out=0.3", "confidence=0")
SAID = ("今天天气真好", "我们去学校", "你是谁", "hello今天", "你不知道", "我们知道这里")


def spoken(text: str, seed: int) -> FloatArray:
    """Return a tone for each character, and a little noise."""
    times = np.arange(round(0.25 * RATE)) / RATE
    tones = [np.sin(2 * np.pi * (200 + 90 * (ord(mark) % 29)) * times) for mark in text]
    noise = np.random.default_rng(seed).standard_normal(len(times) * len(text))
    whole: FloatArray = (0.3 * np.concatenate(tones) + 0.01 * noise).astype(np.float32)
    return whole


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with transcripts, speech without, and some that cannot be used."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    tiny.write(tmp_path / "weights")
    write_noise(tmp_path / "noise")
    rows = ["id,split,label,audio,text"]

    def add(split: str, audio: FloatArray, text: str = "") -> None:
        name = f"s{len(rows)}"
        write_wav(tmp_path / f"{name}.wav", audio)
        rows.append(f"{name},{split},{'' if split == 'unlabelled' else 'a'},{name}.wav,{text}")

    (tmp_path / "file.txt").write_text(SAID[0], encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n")
    for number, text in enumerate(SAID * 2):
        add("train", spoken(text, number), text if number else "file.txt")
    for number in range(3):
        add("unlabelled", sound(1.0, number))
    add("train", spoken("今天", 7), "今龘龘")
    add("train", np.zeros(RATE, np.float32), "今天")
    add("train", sound(0.1), "今天天气")
    add("train", sound(1.0), "。")
    add("train", sound(1.0), "empty.txt")
    add("test", spoken("你好", 8), "你")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def mer(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["tune", *arguments], catch_exceptions=False)


def tuned(*options: str) -> dict[str, Any]:
    given = [part for option in (*QUICK, *options) for part in ("--with", option)]
    result = mer("paraformer", *given, "--out", "run", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_rounds_of_self_training_end_in_a_checkpoint_that_funasr_reads_alike(folder: Path) -> None:
    about = tuned("rounds=2", "noise=noise")
    first, second = about["rounds"]
    assert first["losses"][-1] < first["losses"][0]
    assert [first["kept"], second["kept"]] == [0, 3]
    assert about["ended"] in ("all rounds were done", "the error rate did not fall")
    assert set(first["added"]) <= {"clean", "noise", "voices"}
    assert sum(first["added"].values()) == about["train"]
    assert about["error_rate"] == min(first["error_rate"], second["error_rate"])
    assert about["left_out"] == {
        "with characters that the vocabulary lacks": 1,
        "too short for what is said": 1,
        "without words": 2,
    }
    assert list(about["failed"]) == ["s17"]  # it is silent
    assert about["unknown"] == {"龘": 2}
    assert (about["train"] + about["held_out"], about["unlabelled"]) == (12, 3)
    assert about["with"] == {"checkpoint": "run/checkpoint"}
    with Path("run/log.csv").open() as file:
        epochs = [float(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == [1, 2, 3, 4, 5, 6]
    function = Paraformer(checkpoint="run/checkpoint").load("cpu", "float32")
    (output,) = function([heard(spoken(SAID[0], 0))])
    assert text_of(output) == expected(folder / "run/checkpoint", spoken(SAID[0], 0)).text
    assert not list(Path("run").rglob("*.wav"))
    before = Path("run/metrics.json").stat().st_mtime_ns
    assert tuned("rounds=2", "noise=noise") == about  # nothing is done again
    assert Path("run/metrics.json").stat().st_mtime_ns == before
    result = mer("paraformer", "--with", "rounds=3", "--out", "run", "--device", "cpu")
    assert "holds a training with other options" in result.output


# One round, without the rounds around it


def written(folder: Path) -> list[Utterance]:
    found = []
    for number, text in enumerate(SAID):
        audio = spoken(text, number)
        file = write_wav(folder / f"{number}.wav", audio)
        found.append(Utterance(f"u{number}", str(file), len(audio) / RATE, " ".join(text)))
    return found


def fitted(
    folder: Path, name: str, note: Note = lambda entry: None, **options: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Return the losses of the epochs that were trained, and the weights that are saved."""
    tuning = ParaformerTuning(**{"epochs": 3, "lr": 3e-3, "warmup": 4, "batch": 20, **options})
    utterances, losses = written(folder), []

    def noting(entry: Mapping[str, float]) -> None:
        note(entry)
        losses.append(entry["loss"])

    checkpoint = Paraformer(checkpoint=str(tiny.write(folder / "weights")))
    save = tuning.prepare(checkpoint).fit(
        utterances[:4], utterances[4:], folder / name, device="cpu", seed=1, note=noting
    )
    saved = folder / f"{name}-saved"
    saved.mkdir()
    save(saved)
    return losses, torch.load(saved / "model.pt", weights_only=True)


def test_a_round_goes_on_after_a_signal_or_a_kill_as_if_nothing_had_been(tmp_path: Path) -> None:
    def sent(number: int) -> Note:
        def note(entry: Mapping[str, float]) -> None:
            if entry["epoch"] == 2:
                os.kill(os.getpid(), number)

        return note

    undisturbed, weights = fitted(tmp_path, "whole")
    if not (child := os.fork()):
        fitted(tmp_path, "run", sent(signal.SIGKILL))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with stoppable(), pytest.raises(Stopped):  # after the first step of the third epoch
        fitted(tmp_path, "run", sent(signal.SIGTERM))
    rest, resumed = fitted(tmp_path, "run")
    assert rest == undisturbed[2:]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.items())


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss of step 2 is no number; .* give a lower lr"):
        fitted(tmp_path, "run", lr=1e30, warmup=1, batch=2, longest=2)


def test_transcripts_are_spelt_as_the_tokenizer_cuts_them(tmp_path: Path) -> None:
    def recogniser(folder: Path) -> Recogniser:
        return ParaformerTuning().prepare(Paraformer(checkpoint=str(folder)))

    own = recogniser(tiny.write(tmp_path / "a"))
    assert own.spelt("今天，Hello真好! 12", 10.0) == "今 天 hello 真 好 12"
    with pytest.raises(UnfitError, match="the vocabulary lacks") as caught:
        own.spelt("龘今天zebra龘", 10.0)
    assert "龘" in caught.value.unknown
    with pytest.raises(UnfitError, match="without words"):
        own.spelt("。。。", 10.0)
    assert own.spelt("今天天气", 0.4) == "今 天 天 气"
    with pytest.raises(UnfitError, match="too short for what is said"):
        own.spelt("今天天气", 0.2)


def test_the_error_rate_is_of_characters_whatever_their_case_and_punctuation() -> None:
    assert error_rate([("今 天 hello", "今天，Hello"), ("你 是 谁", "你谁")]) == 1 / 10


def test_what_cannot_be_trained_is_refused(folder: Path) -> None:
    def refused(*arguments: str) -> str:
        result = mer(*arguments, "--out", "run", "--device", "cpu")
        assert result.exit_code == 1
        return result.output

    def with_(option: str) -> str:
        return refused("transcript", "--with", option)

    assert "no option 'epoch'; did you mean 'epochs'?" in with_("epoch=2")
    assert "batch: 10 s is less than longest: 20 s" in with_("batch=10")
    assert "with.noise: nothing at 'nosie'" in with_("noise=nosie")
    assert "with.snr: expected the lower limit first" in with_("snr=[12, 5]")
    assert "rooms: never used" in refused(
        "transcript", "--with", "mixture={clean: 1}", "--with", "rooms=noise"
    )
    assert "has no split 'trian'; did you mean 'train'?" in with_("splits=[trian]")
    assert "no sample of the splits unlabelled has a text" in with_("splits=[unlabelled]")
    assert "did you mean 'transcript'?" in refused("transcripts")
    assert "--fold 1: 'transcript' is a stream" in refused("transcript", "--fold", "1")
    for option in (["--plan"], ["--vary", "lr=1,2"]):
        assert "'paraformer' is a stream, for `mer tune` alone" in refused("paraformer", *option)
    for told, said in (
        ("seaco", "is of a SeacoParaformer, which cannot be trained; give a Paraformer"),
        ("weights, backend: onnx", "backend: onnx cannot be trained; use backend: torch"),
    ):
        tiny.write(folder / "seaco", seaco=True)
        Path("registry.yaml").write_text(REGISTRY.replace("weights", told))
        assert said in refused("paraformer")
    Path("registry.yaml").write_text(REGISTRY)
    assert "too few can be used" in with_("longest=0.2")
