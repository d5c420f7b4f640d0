from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_format
from run_mer import mer
from toy_projects import write_project

from mercore import __version__
from mercore.events import Finished, RunInterrupted, Spent
from mercore.openmetrics import Metrics

PARTS = {"load": 1.0, "decode": 2.0, "wait": 3.0, "encode": 4.0, "write": 5.0, "wall": 6.0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a sample that fails and one without words."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, gaps=True)
    return tmp_path


def families(path: str | Path) -> dict[str, Metric]:
    text = Path(path).read_text(encoding="utf-8")
    parsed: Iterable[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {family.name: family for family in parsed}


def values(path: str | Path) -> dict[tuple[str, ...], float]:
    """Return each value by the name of its metric and its labels in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(path).values()
        for sample in family.samples
    }


def never(text: str) -> None:
    pytest.fail(text)


def test_the_figures_of_a_run_are_those_of_its_report(folder: Path) -> None:
    before = time.time()
    assert mer("run", "--metrics", "mer.prom").exit_code == 3
    found = values("mer.prom")
    assert found["mercore_todo", "few"] == 14
    assert found["mercore_done_total", "few"] == 14
    assert found["mercore_failed_total", "few"] == 1
    assert found["mercore_done_total", "branches"] == 2
    assert found["mercore_branches_trained_total",] == 2
    assert found["mercore_seconds_total", "few", "encode"] > 0
    assert found["mercore_run_state", "finished"] == 1
    assert found["mercore_run_state", "running"] == 0
    assert found["mercore_done_per_second", "few"] == 0
    began, updated = (
        found[f"mercore_run_{at}_timestamp_seconds",] for at in ("started", "updated")
    )
    assert before <= began <= updated <= time.time()
    (about,) = families("mer.prom")["mercore_run_info"].samples
    assert about.labels["command"] == "run"
    assert about.labels["version"] == __version__


def test_there_are_counters_and_gauges_alone(folder: Path) -> None:
    mer("run", "--metrics", "mer.prom")
    text = Path("mer.prom").read_text()
    assert text.endswith("# EOF\n")
    assert {family.type for family in families("mer.prom").values()} == {"counter", "gauge"}
    # What the textfile collector reads: the format before OpenMetrics.
    known = {sample.name for family in older_format(text) for sample in family.samples}
    assert {"mercore_todo", "mercore_done_total"} <= known


def test_a_run_that_ends_in_an_error_says_so(folder: Path) -> None:
    (folder / "manifest.csv").unlink()
    assert mer("extract", "--metrics", "mer.prom").exit_code == 1
    assert values("mer.prom")["mercore_run_state", "failed"] == 1


def test_a_file_that_cannot_be_written_ends_the_command_at_once(folder: Path) -> None:
    result = mer("extract", "--metrics", "registry.yaml/mer.prom")
    assert result.exit_code == 1
    assert "cannot write registry.yaml/mer.prom" in result.stderr
    assert "give another --metrics" in result.stderr
    assert not (folder / "mer.zarr").exists()


def test_a_failure_later_is_a_warning_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    path = tmp_path / "below/mer.prom"
    metrics = Metrics(path, warnings.append)
    path.unlink()
    path.mkdir()  # nothing can be renamed to it
    for _ in range(2):
        metrics.note(RunInterrupted("SIGTERM", 1.0))
    assert len(warnings) == 1
    assert "the run goes on" in warnings[0]
    assert list(path.parent.iterdir()) == [path]


def test_names_are_escaped(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "mer.prom", never)
    name = 'a "quoted"\\ name\nof two lines'
    metrics.start(name, 3)
    metrics.note(RunInterrupted("SIGTERM", 1.0))
    assert values(tmp_path / "mer.prom")["mercore_todo", name] == 3


def test_seconds_are_known_while_work_goes_on_and_work_of_one_name_adds_up(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "mer.prom", never)
    for _ in range(2):
        metrics.start("words", 5)
        metrics.advance("words", 5, 2)
    metrics.note(Spent("words", **PARTS))
    metrics.note(Finished("faces", samples=1, extracted=1, failed=0, **PARTS))
    metrics.note(RunInterrupted("SIGTERM", 1.0))
    found = values(tmp_path / "mer.prom")
    assert found["mercore_done_total", "words"] == 10
    assert found["mercore_failed_total", "words"] == 4
    for name in ("words", "faces"):
        for part, seconds in PARTS.items():
            assert found["mercore_seconds_total", name, part] == seconds


def test_whoever_reads_it_finds_a_whole_file_that_all_may_read(tmp_path: Path) -> None:
    path = tmp_path / "mer.prom"
    metrics = Metrics(path, never)
    with path.open() as before:
        metrics.start("words", 5)
        metrics.note(RunInterrupted("SIGTERM", 1.0))
        assert before.read().endswith("# EOF\n")  # the file of before, which was replaced
    assert path.stat().st_mode & 0o444 == 0o444
    assert [file.name for file in tmp_path.iterdir()] == ["mer.prom"]


def test_the_page_lists_the_metrics(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/operating.md").read_text(encoding="utf-8")
    Metrics(tmp_path / "mer.prom", never)
    text = (tmp_path / "mer.prom").read_text()
    names = [
        line.split()[2] + ("_total" if line.endswith(" counter") else "")
        for line in text.splitlines()
        if line.startswith("# TYPE")
    ]
    table = page.partition("| metric |")[2].partition("\n\n")[0]
    assert [row.split("`")[1] for row in table.splitlines()[2:]] == names
