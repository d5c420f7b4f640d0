"""Two runs at once: on one store they share the work, in one run folder only one trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mercore.cli import main
from mercore.errors import RunError
from mercore.lock import locked
from mercore.machine import Machine
from mercore.project import Project
from mercore.store import Store
from mercore.watch import Silent

REGISTRY = """\
classes: [sad, happy]
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 5}}
fusion: centroid
branches: {one: few}
ensemble: rank_mode
folds: 2
"""
SAMPLES = 60
SMALL = Machine(device="cpu", batch=0.02, threads=1)
"""So that a batch holds one sample, and 12 are read ahead of it."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = [
        f"s{number},train,{('sad', 'happy')[number % 2]},{number} {'a' * 100}"
        for number in range(SAMPLES)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,split,label,text", *rows]))
    return tmp_path


class Meanwhile(Silent):
    """Runs another extraction to its end, once this one has done so many samples."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.other = 0

    def advance(self, name: str, done: int, failed: int) -> None:
        self.left -= done
        if self.left <= 0 and not self.other:
            (outcome,) = Project.open(machine=SMALL, create=True).extract()
            self.other = outcome.extracted


@pytest.mark.parametrize("after", [1, 20])
def test_what_another_run_has_done_meanwhile_is_not_done_again(folder: Path, after: int) -> None:
    watch = Meanwhile(after)
    (outcome,) = Project.open(machine=SMALL, create=True, watch=watch).extract()
    assert watch.other == SAMPLES - after
    assert outcome.extracted == after, "nothing was done twice"
    assert (outcome.samples, outcome.failed) == (SAMPLES, {})
    feature = Store("mer.zarr")["few"]
    assert feature.matrix([f"s{number}" for number in range(SAMPLES)]).sum() == 50 * SAMPLES


class Order(Silent):
    """Notes which samples the store has when some are done."""

    def __init__(self) -> None:
        self.first: list[str] = []

    def advance(self, name: str, done: int, failed: int) -> None:
        if not self.first:
            self.first = Store("mer.zarr")["few"].ids


def test_the_second_begins_where_the_first_will_end(folder: Path) -> None:
    project = Project.open(machine=SMALL, create=True)
    (node,) = project.pipeline.nodes.values()
    collection = project.store.create("features", node.name, node.fingerprint, {})
    with collection.busy() as others:
        assert others == 0
        with collection.busy() as others:
            assert others == 1
    with collection.busy():
        watch = Order()
        Project.open(machine=SMALL, watch=watch).extract()
    assert watch.first == ["s59"]
    with collection.busy() as others:
        assert others == 0, "none is left"


HOLD = """
import sys, time
from pathlib import Path
from mercore.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_only_one_trains_in_a_run_folder_and_a_killed_one_does_not_count(folder: Path) -> None:
    command = [sys.executable, "-c", HOLD, "runs/default"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        result = CliRunner().invoke(main, ["run", "--device=cpu"])
        assert result.exit_code == 1
        assert f"Error: runs/default: process {other.pid} on " in result.stderr
        assert "trains there; wait for its end, or give another --out" in result.stderr
        other.kill()
    result = CliRunner().invoke(main, ["run", "--device=cpu"])
    assert result.exit_code == 0, result.output
    with locked(Path("runs/default")), pytest.raises(RunError, match="trains there"):
        Project.open().train()
