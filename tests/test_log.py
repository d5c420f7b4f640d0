from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from run_mer import mer, mer_json

from mercore import __version__
from mercore.events import BranchTrained, Event, Progress, Spent, Started
from mercore.log import Log
from mercore.watch import Several, Silent

ROOT = Path(__file__).parent.parent
REGISTRY = """\
classes: [sad, happy]
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}}
fusion: centroid
branches: {one: few}
folds: 3
mining: {split: unlabelled, rounds: 1, agree: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a sample that fails."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = [f"s{n},train,{('sad', 'happy')[n % 2]},{'ab'[n % 2]} c" for n in range(12)]
    rows += [f"u{n},unlabelled,,{'ab'[n % 2]} c" for n in range(4)]
    text = "\n".join(["id,split,label,text", *rows, "bad,train,sad,refuse me", ""])
    (tmp_path / "manifest.csv").write_text(text)
    return tmp_path


def events(path: str | Path = "log.jsonl") -> list[dict[str, Any]]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def never(text: str) -> None:
    pytest.fail(text)


def test_a_run_is_told_from_its_begin_to_its_end(folder: Path) -> None:
    assert mer("run", "--log", "log.jsonl").exit_code == 3
    told = events()
    assert [event["event"] for event in told] == [
        "run_started", "started", "failed", "progress", "finished", "started", "trained",
        "progress", "started", "trained", "progress", "round", "report", "run_finished",
    ]  # fmt: skip
    first, _, failed, progress, finished = told[:5]
    digest = hashlib.sha256((folder / "registry.yaml").read_bytes()).hexdigest()[:12]
    assert first == {
        "time": first["time"], "run": first["run"], "event": "run_started", "command": "run",
        "version": __version__, "registry": "registry.yaml", "fingerprint": digest,
        "host": socket.gethostname(), "pid": os.getpid(),
    }  # fmt: skip
    assert failed["sample"] == "bad"
    assert failed["reason"] == "this text is refused"
    assert (progress["todo"], progress["done"], progress["failed"]) == (17, 17, 1)
    assert progress["rate"] > 0
    assert (finished["samples"], finished["extracted"], finished["failed"]) == (17, 17, 1)
    assert finished["wall"] >= finished["encode"] > 0
    trained = [event for event in told if event["event"] == "trained"]
    assert [(event["branch"], event["round"]) for event in trained] == [("one", 0), ("one", 1)]
    assert trained[0]["waf"] == 1.0
    assert told[-3]["accepted"] == told[-3]["total"] == 4
    assert told[-2]["path"] == "runs/default/report.html"


def test_times_are_utc_and_rise(folder: Path) -> None:
    mer("extract", "--log", "log.jsonl")
    times = [event["time"] for event in events()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert times == sorted(times)
    assert all(datetime.fromisoformat(time).utcoffset() == timedelta(0) for time in times)


def test_every_command_that_works_long_adds_to_the_same_file(folder: Path) -> None:
    for command in ("extract", "train", "mine", "run"):
        mer(command, "--log", "logs/all.jsonl")
    mer("predict", "manifest.csv", "--log", "logs/all.jsonl")
    told = events("logs/all.jsonl")
    begun = [event for event in told if event["event"] == "run_started"]
    assert [event["command"] for event in begun] == ["extract", "train", "mine", "run", "predict"]
    assert len({event["fingerprint"] for event in begun}) == 1
    assert len({event["run"] for event in begun}) == 5
    assert {event["run"] for event in told} == {event["run"] for event in begun}
    assert begun[-1]["registry"] == "runs/default/registry.yaml"


def test_the_environment_may_name_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCORE_EXTRACT_LOG", "named.jsonl")
    mer("extract")
    assert events("named.jsonl")[0]["command"] == "extract"


def test_what_is_done_already_is_told_as_finished(folder: Path) -> None:
    mer("extract")
    mer("extract", "--log", "log.jsonl")
    assert [event["event"] for event in events()] == ["run_started", "finished", "run_finished"]
    assert events()[1]["extracted"] == 0
    assert events()[1]["failed"] == 1


def test_a_batch_that_is_too_big_is_told(folder: Path) -> None:
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("refuse me", "greedy"))
    mer("extract", "--log", "log.jsonl")
    halved = [event for event in events() if event["event"] == "halved"]
    assert (halved[0]["name"], halved[0]["samples"]) == ("few", 17)
    assert [event["samples"] for event in halved] == sorted(
        (event["samples"] for event in halved), reverse=True
    )
    assert halved[-1]["samples"] == 2


def test_an_error_that_ends_a_command_is_told(folder: Path) -> None:
    (folder / "registry.yaml").write_text(REGISTRY.replace("letters,", "leters,"))
    assert mer("extract", "--log", "log.jsonl").exit_code == 1
    assert [event["event"] for event in events()] == ["run_started", "run_failed"]
    assert events()[1]["error"] == "RegistryError"
    assert "leters" in events()[1]["message"]


def test_a_registry_that_is_missing_has_no_fingerprint(folder: Path) -> None:
    assert mer("extract", "--registry", "typo.yaml", "--log", "log.jsonl").exit_code == 1
    assert events()[0]["registry"] == "typo.yaml"
    assert events()[0]["fingerprint"] is None


@pytest.mark.parametrize("place", ["registry.yaml/log.jsonl", "."])
def test_a_file_that_cannot_be_opened_ends_the_command_before_anything_is_done(
    folder: Path, place: str
) -> None:
    result = mer("extract", "--log", place)
    assert result.exit_code == 1
    assert f"Error: log '{place}': cannot write it: " in result.stderr
    assert not (folder / "mer.zarr").exists()


def test_the_log_and_the_figures_need_a_file_each(folder: Path) -> None:
    result = mer("extract", "--log", "one", "--metrics", "./one")
    assert result.exit_code == 2
    assert "--log and --metrics both name 'one'" in result.stderr
    assert not (folder / "one").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_warning_once_and_ends_nothing(folder: Path) -> None:
    result = mer("extract", "--log", "/dev/full")
    assert result.exit_code == 3, result.output
    assert result.stderr.count("Warning: log '/dev/full': cannot write it: No space left") == 1
    assert "the run goes on" in result.stderr
    assert mer_json("status")["current"][0]["done"] == 17


def test_a_line_that_is_broken_off_spoils_no_other(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    warnings: list[str] = []
    with Log(tmp_path / "log.jsonl", warnings.append) as log:
        log.start("one", 1)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (tmp_path / "log.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limit[1]))
        try:
            log.start("two", 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        log.start("three", 3)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [len(lines), len(lines[1])] == [3, 10]
    assert json.loads(lines[2])["name"] == "three"
    assert len(warnings) == 1


def test_progress_is_told_at_most_once_a_second(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl", never) as log:
        log.start("words", 1001)
        for _ in range(1000):
            log.advance("words", 1, 0)
        assert [event["event"] for event in events(tmp_path / "log.jsonl")] == ["started"]
        log.advance("words", 1, 1)
    last = events(tmp_path / "log.jsonl")[-1]
    assert (last["event"], last["done"], last["failed"]) == ("progress", 1001, 1)


def test_numbers_that_json_has_no_word_for_and_odd_names_are_written(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl", never) as log:
        log.note(BranchTrained("快乐 \udcff \n", 0, float("nan"), 1.0))
    assert "快乐" in (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    (event,) = events(tmp_path / "log.jsonl")
    assert event["branch"] == "快乐 \udcff \n"
    assert event["waf"] is None


def test_several_watches_are_told_the_same() -> None:
    class Noting(Silent):
        def __init__(self) -> None:
            self.told: list[object] = []

        def start(self, name: str, total: int) -> None:
            self.told.append((name, total))

        def advance(self, name: str, done: int, failed: int) -> None:
            self.told.append((name, done, failed))

        def note(self, event: Event) -> None:
            self.told.append(event)

    both = [Noting(), Noting()]
    watch = Several(both)
    watch.start("words", 2)
    watch.advance("words", 1, 1)
    watch.note(Started("faces", 1))
    assert both[0].told == both[1].told == [("words", 2), ("words", 1, 1), Started("faces", 1)]


def test_the_page_lists_the_events_with_what_they_tell() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    logged = [kind for kind in Event.__subclasses__() if kind.logged]
    rows = [
        f"| `{kind.kind}` | {', '.join(f'`{field.name}`' for field in fields(kind))} "
        f"| {(kind.__doc__ or '').splitlines()[0]} |"
        for kind in logged
    ]
    table = page.partition("| event |")[2].partition("\n\n")[0]
    assert table.splitlines()[2:] == rows
    assert Progress in logged
    assert Spent not in logged
