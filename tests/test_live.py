from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Prefix
from run_mer import mer

import mercore_toys
from mercore.live import Observer
from mercore.manifest import Manifest
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.store import Collection, Row, Store, writer_of

REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  words: {uses: letters, inputs: {text: loud}}
"""
ALL = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = [f"s{n},train,sad,some words" for n in range(ALL)]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,split,label,text", *rows, ""]))
    return tmp_path


class Bench:
    """A store that several writers fill, and one who looks."""

    def __init__(self, store: Store) -> None:
        pipeline = resolve(Registry.read("registry.yaml"), Plugins())
        self.store = store
        self.observer = Observer(pipeline, Manifest.read("manifest.csv", pipeline.classes), store)
        self.node = pipeline.nodes["words"]

    def writer(self) -> Collection:
        """Return the collection as another process would open it."""
        return self.store.create("features", "words", self.node.fingerprint, {})


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(Store(folder / "mer.zarr"))


def row(number: int, failed: str | None = None) -> Row:
    from numpy import ones

    return Row(f"s{number}", None if failed else ones((1, 26), "float32"), failed=failed)


def test_the_first_look_counts_and_knows_no_rate(bench: Bench) -> None:
    loud, words = bench.observer.look()
    assert (loud.name, loud.kind, loud.done, loud.remaining) == ("loud", "stream", 0, ALL)
    assert (words.rate, words.seconds, words.writers) == (0, None, {})


def test_the_rate_is_that_since_the_look_before_by_writer(bench: Bench) -> None:
    first, second = bench.writer(), bench.writer()
    first.commit([row(0)])
    bench.observer.look()
    first.commit([row(n) for n in range(1, 7)])
    second.commit([row(n) for n in range(7, 9)])
    second.commit([row(9, failed="no words")])
    time.sleep(0.02)
    standing = bench.observer.look()[1]
    assert (standing.done, standing.failed, standing.remaining) == (10, 1, 30)
    keys = bench.writer().entries().commits()
    writers = [writer_of(keys[id]) for id in ("s1", "s7")]
    assert list(standing.writers) == writers
    assert standing.writers[writers[0]] == pytest.approx(2 * standing.writers[writers[1]])
    assert standing.seconds == pytest.approx(30 / standing.rate)
    assert standing.rate == pytest.approx(9 / 6 * standing.writers[writers[0]])
    assert bench.observer.look()[1].rate == 0


def test_a_compaction_is_no_progress_and_samples_done_again_are(bench: Bench) -> None:
    writer = bench.writer()
    for number in range(4):
        writer.commit([row(number)])
    bench.observer.look()
    writer.compact()
    assert bench.observer.look()[1].rate == 0
    writer.commit([row(0)])
    again = bench.observer.look()[1]
    assert again.rate > 0
    assert again.done == 4


def test_samples_of_another_manifest_are_not_counted(bench: Bench) -> None:
    writer = bench.writer()
    bench.observer.look()
    writer.commit([row(ALL)])
    standing = bench.observer.look()[1]
    assert (standing.done, standing.rate) == (0, 0)


def test_a_look_on_s3_asks_little_however_much_is_stored(folder: Path, s3: Prefix) -> None:
    bench = Bench(Store(s3.path))
    writer = bench.writer()
    for number in range(30):
        writer.commit([row(number)])
    bench.observer.look()
    writer.commit([row(30)])
    s3.server.requests.clear()
    assert bench.observer.look()[1].done == 31
    # Two listings of gen/, one each of seg/ and idx/, the new segment, and the missing stream.
    assert len(s3.server.requests) <= 7


def test_looks_are_printed_as_blocks(folder: Path) -> None:
    mer("extract")
    result = mer("status", "--watch", "0.1", "--times", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("samples/s") == 2
    assert result.stdout.count(f"{ALL} of {ALL}") == 4


def test_looks_are_lines_of_json(folder: Path) -> None:
    mer("extract")
    result = mer("status", "--watch", "0.1", "--times", "3", "--json")
    looks = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(looks) == 3
    assert looks[0]["streams_and_features"][1] == {
        "name": "words", "kind": "feature", "samples": ALL, "done": ALL, "failed": 0,
        "remaining": 0, "rate": 0, "seconds_left": None, "writers": {},
    }  # fmt: skip


def test_seconds_may_be_left_out(folder: Path) -> None:
    mer("extract")
    assert mer("status", "--watch", "--times", "1").exit_code == 0
    assert "0.0 is not in the range" in mer("status", "--watch", "0").stderr


def test_the_environment_may_ask_for_a_live_view(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mer("extract")
    monkeypatch.setenv("MERCORE_STATUS_WATCH", "0.1")
    assert mer("status", "--times", "2").stdout.count("samples/s") == 2


def test_a_store_that_is_not_there_is_said_so(folder: Path) -> None:
    result = mer("status", "--watch", "--times", "1")
    assert result.exit_code == 1
    assert "mer.zarr: no store there; mer extract makes one" in result.stderr


@pytest.fixture
def watching(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A live view that has been shown once."""
    mer("extract")
    process = subprocess.Popen(
        [sys.executable, "-c", "from mercore.cli import main; main()", "status", "--watch", "0.1"],
        env=os.environ
        | {"PYTHONPATH": str(Path(mercore_toys.__file__).parent), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_is_how_a_live_view_ends(watching: subprocess.Popen[str]) -> None:
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=30)[1] == ""
    assert watching.returncode == 0


def test_a_live_view_may_be_told_to_end(watching: subprocess.Popen[str]) -> None:
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=30)
    assert watching.returncode == 143
