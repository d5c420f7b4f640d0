"""Training encoders: `mer tune`, on the toy encoder `learner`."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_training
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from toy_projects import write_texts

import mercore
from mercore.cli import main
from mercore.components import Encoder
from mercore.errors import PluginError, RegistryError, RunError
from mercore.media import Text
from mercore.testing import TuningTests
from mercore.tuning import Trainee
from mercore.tuning._data import Order, balance
from mercore.tuning._job import Job, fitting
from mercore.tuning._plan import plan
from mercore.tuning._trainer import scores
from mercore.tuning.tune import job_of
from mercore.watch import Silent
from mercore_toys import Learner, Learning

REGISTRY = """\
classes: [sad, happy, calm]
features:
  toy: {uses: learner, inputs: {text: text}, with: {checkpoint: toy.safetensors}}
  counted: {uses: letters, inputs: {text: text}}
folds: 3
"""
TOYS = Path(toy_training.__file__).parent
OPTIONS = {"epochs": 6, "batch": 4, "at_once": 2, "lr": 0.05}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    toy_training.write(tmp_path / "toy.safetensors")
    return tmp_path


def job(out: str = "run", watch: Any = None, **options: Any) -> Job:
    project = mercore.open(device="cpu")
    made = job_of(project, "toy", {**OPTIONS, **options}, out)
    return made if watch is None else made.__class__(**{**vars(made), "watch": watch})


def log(out: str = "run") -> list[dict[str, str]]:
    with Path(out, "log.csv").open() as file:
        return list(csv.DictReader(file))


def losses(out: str = "run") -> list[float]:
    return [float(row["loss"]) for row in log(out) if row["loss"]]


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def imported(*arguments: str) -> set[str]:
    """Return which of the heavy libraries a command imports."""
    code = (
        "import sys\nfrom mercore.cli import main\n"
        f"main({list(arguments)!r}, standalone_mode=False)\n"
        "print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOYS)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=environment)  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


def in_a_child(work: Callable[[], object]) -> int:
    """Return how a forked process ended that does the work."""
    pid = os.fork()
    if not pid:
        torch.set_num_threads(1)
        try:
            work()
        except KeyboardInterrupt:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class After(Silent):
    """Does something after so many steps."""

    def __init__(self, steps: int, then: Callable[[], object]) -> None:
        self._left, self._then = steps, then

    def advance(self, name: str, done: int, failed: int) -> None:
        self._left -= done
        if self._left == 0:
            self._then()


# What a training leaves behind


def test_a_training_lowers_its_loss_and_its_checkpoint_is_read_back() -> None:
    found = job().run()
    assert losses()[-1] < 0.5 * losses()[0]
    assert found["waf"] == 1.0
    assert found["samples"] == 6
    assert found["failed"] == {}
    project = mercore.open("registry.yaml", device="cpu")
    trained = Learner(checkpoint="run/checkpoint").load("cpu", "float32")
    before = Learner(checkpoint="toy.safetensors").load("cpu", "float32")
    sample = [{"text": Text("aab")}]
    assert np.abs(np.asarray(trained(sample)[0]) - np.asarray(before(sample)[0])).max() > 0.01
    text = Path("registry.yaml").read_text().replace("toy.safetensors", "run/checkpoint")
    Path("registry.yaml").write_text(text)
    project = mercore.open("registry.yaml", device="cpu")
    project.extract(["toy"])
    matrix = project.features["toy"].matrix()
    np.testing.assert_array_equal(matrix[0], np.asarray(trained([{"text": Text("a c")}])[0])[0])


def test_the_folder_says_all_that_was_done() -> None:
    job(label_map={"calm": "happy"}).run()
    about = json.loads(Path("run/tuning.json").read_text())
    assert about["options"]["lr"] == 0.05
    assert about["options"]["epochs"] == 6
    assert about["classes"] == ["sad", "happy"]
    assert about["samples"] == {"train": 12, "valid": 6}
    assert "torch" in about["versions"]
    assert "transformers" in about["versions"]
    rows = log()
    assert [row["epoch"] for row in rows if row["eval_waf"]] == [f"{n}.0" for n in range(1, 7)]
    with Path("run/predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    assert len(predicted) == 6
    assert all(abs(float(row["sad"]) + float(row["happy"]) - 1) < 1e-5 for row in predicted)


def test_what_is_done_is_not_done_again_and_another_training_is_refused() -> None:
    found = job().run()
    began = Path("run/metrics.json").stat().st_mtime_ns
    assert job().run() == found
    assert Path("run/metrics.json").stat().st_mtime_ns == began
    with pytest.raises(RunError, match="run: holds a training with other options; give another"):
        job(lr=0.1).run()


def test_frozen_parameters_do_not_move() -> None:
    found = job(train="head").run()
    assert (found["trained"], found["parameters"]) == (27, 27 + 8 * 26)
    kept = load_file("run/checkpoint/model.safetensors")["layer.weight"]
    first = load_file("toy.safetensors")["layer.weight"]
    assert torch.equal(kept, first)
    (state,) = {p.parent.name for p in Path("run/state").glob("checkpoint-18/model.safetensors")}
    held = load_file(f"run/state/{state}/model.safetensors")
    assert set(held) == {"head.weight", "head.bias"}


def test_a_network_is_made_for_the_precision_of_the_device() -> None:
    seen: list[str] = []

    class Noting(Learning):
        def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
            seen.append(self.precision)
            return super().prepare(encoder, classes, weights=weights)

    replace(job(), tuning=Noting(epochs=1, batch=4)).run()
    assert seen == ["float32"]  # what `auto` is on a CPU, also where there is a GPU beside it


def test_the_log_is_written_for_tensorboard_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job(epochs=1).run()
    assert not Path("run/tensorboard").exists()
    job("board", epochs=1, tensorboard=True).run()
    (events,) = Path("board/tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
    assert job("board", epochs=1).folder.done(job("board", epochs=1).about)  # the same training
    missing = "transformers.integrations.integration_utils.is_tensorboard_available"
    monkeypatch.setattr(missing, lambda: False)
    with pytest.raises(RunError, match="needs tensorboard, which is not installed; run `pip"):
        job("other", epochs=1, tensorboard=True).run()


# Interruption


def test_a_killed_training_goes_on_to_the_same_losses() -> None:
    job("whole").run()
    kill = After(11, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert in_a_child(lambda: job(watch=kill).run()) == -signal.SIGKILL
    Path("run/state/checkpoint-12").mkdir()  # as if it was killed while it saved
    (Path("run/state/checkpoint-12") / "trainer_state.json").write_text('{"global_')
    assert not Path("run/metrics.json").exists()
    found = job().run()
    assert log("run") == log("whole")
    assert found == json.loads(Path("whole/metrics.json").read_text())


def test_an_interrupted_training_saves_the_step_in_flight_and_goes_on() -> None:
    job("whole").run()
    stop = After(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert in_a_child(lambda: job(watch=stop).run()) == 99
    assert Path("run/state/checkpoint-5").is_dir()
    job().run()
    assert losses("run") == losses("whole")


# What goes wrong


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(RunError, match=r"the loss is (nan|inf) after \d+ steps; .* a lower lr"):
        job(lr=1e30, clip=None, warmup=0).run()
    assert not Path("run/metrics.json").exists()


def test_out_of_memory_halves_what_is_done_at_once_and_the_batch_stays() -> None:
    found = job("small", at_once=4, memory=2).run()
    assert found["at_once"] == 2
    job("large", at_once=2).run()
    assert losses("small") == losses("large")


def test_one_sample_that_does_not_fit_is_said() -> None:
    with pytest.raises(RunError, match="out of memory with 1 samples at once; give a lower"):
        job(at_once=1, memory=0).run()


def test_samples_that_cannot_be_read_are_named_and_the_others_count(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    rows = manifest.read_text().splitlines()
    for row in (1, 2):
        (folder / f"{row}.txt").write_bytes(b"\xff\xfe\x00")
        rows[row] = ",".join([*rows[row].split(",")[:3], f"{row}.txt"])
    manifest.write_text("\n".join(rows) + "\n")
    found: Any = job().run()
    assert set(found["failed"]) == {"s0", "s1"}
    assert "1.txt" in found["failed"]["s0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "no option 'epoch'; did you mean 'epochs'?"),
        ({"batch": 0}, "batch: Input should be greater than or equal to 1, found 0"),
        ({"train": "some"}, "train: Input should be 'all' or 'head', found 'some'"),
        ({"label_map": {"glad": "happy"}}, "label_map: no class 'glad'"),
        ({"label_map": {"sad": "x", "happy": "x", "calm": "x"}}, "leaves one class, 'x'"),
    ],
)
def test_wrong_options_are_said(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        job(**options)
    assert message in str(caught.value)


def test_a_fold_that_is_not_there_and_what_cannot_be_trained_are_said() -> None:
    project = mercore.open(device="cpu")
    with pytest.raises(RunError, match=r"fold 3: expected 0 to 2 \(folds: 3\)"):
        job_of(project, "toy", OPTIONS, "run", fold=3)
    with pytest.raises(PluginError, match="'letters' cannot be trained by `mer tune`; `mer plug"):
        job_of(project, "counted", OPTIONS, "run")
    with pytest.raises(RegistryError, match=r"no feature 'toi' .*; did you mean 'toy'"):
        job_of(project, "toi", OPTIONS, "run")


def test_a_batch_that_the_devices_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RunError, match="batch 4: expected a multiple of the 3 processes"):
        fitting(Learning(batch=4), 2)
    assert fitting(Learning(batch=12), 3) == 2


# Classes


def test_rare_classes_weigh_more_or_are_drawn_more_often() -> None:
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(balance(labels, 3), [4 / 6, 2, 0])
    losses_of = {}
    for way in ("none", "weights", "sampling"):
        job(way, balance=way, epochs=1).run()
        losses_of[way] = losses(way)
    assert len({tuple(found) for found in losses_of.values()}) >= 2


def test_the_order_of_the_samples_is_another_each_epoch_and_the_same_each_time() -> None:
    class Four:
        epoch = 0

        def __len__(self) -> int:
            return 400

    def order(epoch: int, weights: np.ndarray | None = None) -> list[int]:
        made = Order(Four(), 7, weights)  # type: ignore[arg-type]
        made.set_epoch(epoch)
        return list(made)

    assert order(0) == order(0) != order(1)
    assert sorted(order(1)) == list(range(400))
    weights = np.repeat([1.0, 3.0], 200).astype(np.float32)
    share = np.mean(np.array(order(0, weights)) >= 200)
    assert abs(share - 0.75) < 0.06


def test_a_sample_that_cannot_be_evaluated_does_not_count() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    found = type("Found", (), {"label_ids": np.array([0, -1, 1]), "predictions": logits})
    assert scores(found)["accuracy"] == 0.5


def test_samples_that_an_option_leaves_out_are_looked_for_once_and_counted() -> None:
    class Noting(Silent):
        started: list[tuple[str, int]] = []  # noqa: RUF012

        def start(self, name: str, total: int) -> None:
            self.started.append((name, total))

    made = job(without="aaa", watch=Noting())
    names = [made.train.source.name(row) for row in range(12)]
    found = made.run()
    lines = Path("run/left_out.jsonl").read_text().splitlines()
    left_out = [json.loads(line)["sample"] for line in lines]
    assert left_out == [name for name in ("s2", "s8", "s14") if name in names]
    assert found["left_out"] == {"unwanted": len(left_out)}
    assert found["samples"] == 6  # of the held-out fold, whatever they say
    Path("run/metrics.json").unlink()
    assert made.run() == found
    assert [start for start in Noting.started if start[0] == "samples"] == [("samples", 12)]
    options = [f"--with={name}={value}" for name, value in {**OPTIONS, "without": "aaa"}.items()]
    printed = mer("tune", "toy", "--device=cpu", "--out=run", *options).output
    assert re.search(rf"left out +unwanted {len(left_out)}", printed)


def test_a_training_that_leaves_out_all_samples_says_why() -> None:
    with pytest.raises(RunError, match="no sample is left to train on; left out: unwanted 12"):
        job(without="c").run()


# The plan of the memory


def test_the_plan_is_what_the_backward_pass_keeps() -> None:
    encoder = Learner(checkpoint="toy.safetensors")
    found = plan(Learning(batch=8, at_once=8), encoder, 3, memory=10**6)
    assert (found.parameters, found.trained) == (235, 235)
    alone = found.needs[0]
    assert (alone.weights, alone.gradients, alone.optimiser) == (940, 940, 1880)
    trainee = Learning().prepare(encoder, 3)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = trainee.module.train()(torch.zeros(8, 26))
    own = {p.untyped_storage().data_ptr() for p in trainee.module.parameters()}
    assert alone.activations == sum(size for key, size in kept.items() if key not in own)
    assert output["logits"].shape == (8, 3)
    assert alone.fits == (10**6 - 3760) // (alone.activations // 8)
    sharded = next(need for need in found.needs if need.sharded and need.devices == 4)
    assert (sharded.weights, sharded.optimiser) == (235, 470)


def test_a_network_that_cannot_be_planned_is_said() -> None:
    class Mute(torch.nn.Module):
        def forward(self, counts: torch.Tensor) -> None:
            raise NotImplementedError  # without a message

    class Unplanned(Learning):
        def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
            trainee = super().prepare(encoder, classes, weights=weights)
            trainee.module = Mute()
            return trainee

    with pytest.raises(RunError, match=r"run without its weights: NotImplementedError$"):
        plan(Unplanned(), Learner(checkpoint="toy.safetensors"), 3)


# The command


def test_the_command_prints_scores_and_the_line_of_the_registry() -> None:
    options = [f"--with={name}={value}" for name, value in OPTIONS.items()]
    result = mer("tune", "learner", "--device=cpu", *options)
    assert result.exit_code == 0, result.output
    assert "WAF, held-out fold  1.0000" in result.output
    line = "toy: {uses: learner, with: {checkpoint: runs/tune/learner/checkpoint}}"
    assert result.output.endswith(f"In registry.yaml: {line}\n")
    again = json.loads(mer("tune", "learner", "--device=cpu", *options, "--json").stdout)
    assert again["waf"] == 1.0
    assert again["uses"] == "learner"
    assert imported("tune", "learner", "--device=cpu", *options) == set()  # nothing is to be done
    report = mer("report", "runs/tune/learner")
    assert report.output.splitlines()[1].split()[:4] == [
        "learner", "18", f"{again['loss']:.4f}", "1.0000",
    ]  # fmt: skip
    planned = mer("tune", "toy", *options, "--plan", "--memory=1MiB")
    assert "fits at most" in planned.output
    assert "235 of 235 parameters" in planned.output


def test_variations_are_put_side_by_side() -> None:
    options = [f"--with={name}={value}" for name, value in OPTIONS.items() if name != "lr"]
    arguments = ["tune", "toy", "--device=cpu", *options, "--vary=train=all,head"]
    result = mer(*arguments, "--vary=lr=0.05", "--out=table")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:3] == ["train", "lr", "trained"]
    assert [line.split()[0] for line in lines[1:]] == ["all", "head"]
    rows = json.loads(mer(*arguments, "--vary=lr=0.05", "--out=table", "--json").stdout)
    assert [row["trained"] for row in rows] == [235, 27]
    assert all(0 <= row["probe"]["low"] <= row["probe"]["waf"] <= 1 for row in rows)
    assert mer(*arguments, "--with=train=all").exit_code == 1
    report = json.loads(mer("report", "table", "--json").stdout)
    assert [one["probe"] for one in report["trainings"]] == [row["probe"] for row in rows]


def test_two_processes_do_together_what_one_does() -> None:
    options = [f"--with={name}={value}" for name, value in OPTIONS.items()]
    Path("mer.py").write_text("from mercore.cli import main\nmain()\n")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "mer.py"]
    command = [sys.executable, *launcher, "tune", "toy", "--device=cpu", *options, "--out=two"]
    environment = {**os.environ, "PYTHONPATH": str(TOYS)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("WAF, held-out fold") == 1
    about = json.loads(Path("two/metrics.json").read_text())
    assert (about["at_once"], about["steps"], about["samples"]) == (2, 18, 6)
    assert losses("two")[-1] < 0.5 * losses("two")[0]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--with=lr", "'lr': expected KEY=VALUE, such as lr=1e-4"),
        ("--with=lr=[", "'[': is no YAML value"),
    ],
)
def test_options_that_cannot_be_read_are_wrong_usage(argument: str, message: str) -> None:
    result = mer("tune", "toy", argument)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


class TestLearner(TuningTests):
    tuning = Learning()

    @pytest.fixture(autouse=True)
    def _checkpoint(self, folder: Path) -> None:
        type(self).component = Learner(checkpoint="toy.safetensors")

    @classmethod
    def setup_class(cls) -> None:
        """The checkpoint is written by a fixture."""
