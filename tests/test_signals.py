"""SIGINT and SIGTERM to `mer` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_mer import mer, mer_json

import mercore_toys

SLOW = """\
import sys, time
import mercore_toys

quick = mercore_toys.Letters.load

def load(self, device, dtype):
    encode = quick(self, device, dtype)
    def slow(batch):
        print(len(batch), flush=True)
        time.sleep({seconds})
        return encode(batch)
    return slow

mercore_toys.Letters.load = load
from mercore.cli import main
main()
"""
REGISTRY = """\
classes: [sad, happy]
features:
  words: {uses: letters, inputs: {text: text}}
"""
ALL = 200
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Begin an extraction in small batches, each of which prints its size and takes its time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = [f"s{n},train,sad,some words" for n in range(ALL)]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,split,label,text", *rows, ""]))
    begun: list[subprocess.Popen[str]] = []

    def begin(seconds: float, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
        options = ["--batch", "0.01", "--parallel", "1", "--device", "cpu", "--log", "log.jsonl"]
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW.format(seconds=seconds), "extract", *options],
            env=os.environ | {"PYTHONPATH": str(Path(mercore_toys.__file__).parent)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def first_batch(process: subprocess.Popen[str]) -> int:
    """Wait until a batch is in flight; return its size."""
    assert process.stdout
    return int(process.stdout.readline())


def stored() -> int:
    return int(mer_json("status")["current"][0]["done"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_batch_in_flight_is_committed(start: Start, name: str) -> None:
    number = signal.Signals[name]
    process = start(seconds=0.5)
    size = first_batch(process)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines() == [
        "Stopping after what is under way; once more ends at once",
        "Interrupted: what is done is kept; run it again to go on",
    ]
    assert printed == "", "another batch was begun"
    assert stored() == size < ALL
    last = json.loads(Path("log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["signal"]) == ("run_interrupted", name)
    assert mer("extract").exit_code == 0
    assert stored() == ALL


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(start: Start, second: signal.Signals) -> None:
    process = start(seconds=60)
    first_batch(process)
    process.send_signal(signal.SIGTERM)
    assert process.stderr
    assert process.stderr.readline().startswith("Stopping")
    began = time.monotonic()
    process.send_signal(second)
    assert process.wait(timeout=30) == -second
    assert time.monotonic() - began < 10
    assert stored() == 0
    assert mer("extract").exit_code == 0


def test_a_signal_that_is_ignored_stays_ignored(start: Start) -> None:
    process = start(0.05, lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    first_batch(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert stored() == ALL


def test_a_command_leaves_the_handlers_of_its_process_as_they_were(start: Start) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert mer("extract").exit_code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
