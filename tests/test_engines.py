"""Extraction in worker processes: the same results, whatever happens to a worker."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from run_mer import mer, mer_json
from text_projects import project, registry, stored, words
from toy_clips import write_wav

from mercore.engines import Handout
from mercore.engines._lengths import lengths_of
from mercore.errors import DeviceError, RunError
from mercore.extraction import Seconds
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.plugins import Plugins
from mercore.project import Project
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.results import FASTER
from mercore.status import feature_results
from mercore.store import Store

TOYS = Path(__file__).parent / "toys"
TWO = Machine(device="cpu", devices="cpu:2", batch=0.01)
ONE = Machine(device="cpu", devices="cpu", batch=0.01)


# The same results


def test_workers_leave_what_one_process_leaves(tmp_path: Path) -> None:
    features = "few: {uses: letters, inputs: {text: signed}, frames: true}"
    texts = words(60) | {"bad": "refuse this", "sick": "nan"}
    streams = "signed: {uses: sign}"
    found = []
    for name, machine in (("one", Machine(device="cpu")), ("two", TWO)):
        made = project(tmp_path / name, features, texts, machine, streams)
        outcomes = {outcome.node.name: outcome for outcome in made.extract()}
        assert [outcome.extracted for outcome in outcomes.values()] == [62] * 2
        failed = {name: outcome.failed for name, outcome in outcomes.items()}
        found.append((stored(made.store), failed))
        assert [outcome.extracted for outcome in made.extract()] == [0] * 2
    assert found[0] == found[1]
    assert found[0][1]["few"] == {
        "bad": "this text is refused",
        "sick": "encoder 'letters' returned NaN or infinite values",
    }


def test_an_encoder_that_ships_gives_the_same_values_in_workers(tmp_path: Path) -> None:
    rows = ["id,split,audio"]
    for number in range(12):
        seconds, tone = 0.5 + 0.1 * (number % 5), 150 + 20 * number
        path = write_wav(tmp_path / f"{number}.wav", seconds, tone=tone)
        rows.append(f"c{number},unlabelled,{path}")
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, ""]))
    (tmp_path / "registry.yaml").write_text(registry("voice: {uses: prosody}"))
    found = []
    for name, machine in (("one", Machine(device="cpu")), ("two", TWO)):
        files = (tmp_path / "registry.yaml", tmp_path / "manifest.csv", tmp_path / f"{name}.zarr")
        made = Project.open(*files, create=True, machine=machine)
        assert made.extract()[0].failed == {}
        found.append(made.features["voice"].matrix())
    np.testing.assert_array_equal(found[0], found[1])


def test_rows_of_another_width_fail_though_several_write_at_once(tmp_path: Path) -> None:
    texts = {f"s{n}": "abcd" if n % 2 else "abc" for n in range(40)}
    made = project(tmp_path, "wide: {uses: wide, inputs: {text: text}}", texts)
    (outcome,) = made.extract()
    assert len(outcome.failed) == 20
    assert made.features["wide"].present().matrix().shape in {(20, 3), (20, 4)}


def test_the_seconds_are_noted_and_the_slowest_part_is_said(tmp_path: Path) -> None:
    made = project(
        tmp_path, "deadly: {uses: deadly, inputs: {text: text}, with: {seconds: 0.02}}", words(40)
    )
    (outcome,) = made.extract()
    (note,) = made.store.collections("features")[0].notes()
    assert note["samples"] == outcome.seconds.samples == 40
    assert note["encode"] > 0.02
    assert 0 < note["load"] < note["wall"]
    assert outcome.slowest in ("encode", "write")
    (kept,) = feature_results(made.pipeline, made.manifest, made.store)
    assert kept.slowest == note["slowest"] == outcome.slowest


def test_decoding_is_slowest_where_what_is_done_beside_it_takes_less() -> None:
    assert Seconds(1, decode=8.0, encode=3.0, write=0.9).slowest(2) == "decode"
    assert Seconds(1, decode=8.0, encode=3.0, write=1.1).slowest(2) == "encode"
    assert Seconds(1, decode=1.0, encode=1.0, write=2.0).slowest(2) == "write"
    assert Seconds().slowest(2) == ""


# A worker that ends


def deadly(
    folder: Path, texts: dict[str, str], options: str = "", machine: Machine = ONE
) -> Project:
    features = f"deadly: {{uses: deadly, inputs: {{text: text}}, with: {{{options}}}}}"
    return project(folder, features, texts, machine)


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    texts = words(80) | {"s40": "die once"}
    made = deadly(tmp_path, texts, f"left: {tmp_path / 'left'}", TWO)
    (outcome,) = made.extract()
    assert (tmp_path / "left").exists()
    assert outcome.failed == {}
    assert sorted(made.features["deadly"].present().ids) == sorted(texts)


def test_samples_that_kill_are_found_and_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    texts = words(60) | {"s20": "die now"}
    made = deadly(tmp_path, texts)
    (outcome,) = made.extract()
    assert outcome.failed == {"s20": "ended the worker process (signal 11) 2 times"}
    assert len(made.features["deadly"].present()) == 59
    assert made.extract()[0].extracted == 0
    made = deadly(tmp_path, texts, machine=Machine("cpu", devices="cpu", retries=1))
    (again,) = made.extract(retry_failed=True)
    assert set(again.failed.values()) == {"ended the worker process (signal 11) once"}


def test_a_broken_gpu_ends_its_worker_and_not_the_samples_after_it(tmp_path: Path) -> None:
    (outcome,) = deadly(tmp_path, words(20) | {"s3": "break"}).extract()
    assert list(outcome.failed) == ["s3"]
    assert "(CUDA error: device-side assert triggered) 2 times" in outcome.failed["s3"]


def test_without_workers_a_broken_gpu_ends_the_run(tmp_path: Path) -> None:
    made = deadly(tmp_path, {"a": "break"}, machine=Machine("cpu"))
    with pytest.raises(DeviceError, match=r"CUDA error: device-side assert.*--devices"):
        made.extract()


def test_a_worker_that_ends_while_it_loads_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'cpu' ended \(signal 9\) before its component was loaded"):
        deadly(tmp_path, words(9), "load_kills: true").extract()


def test_a_machine_on_which_all_workers_end_is_at_fault(tmp_path: Path) -> None:
    texts = {f"s{n}": "die" for n in range(9)}
    machine = Machine("cpu", devices="cpu", retries=1)
    with pytest.raises(RunError, match="5 worker processes in a row ended"):
        deadly(tmp_path, texts, machine=machine).extract()


def test_an_error_that_no_sample_causes_is_that_of_the_worker(tmp_path: Path) -> None:
    made = project(tmp_path, "wobbly: {uses: wobbly, inputs: {text: text}}", words(90), ONE)
    with pytest.raises(RunError, match="20 samples in a row failed, the last with OSError"):
        made.extract()


# Interruption


@pytest.mark.parametrize(("devices", "whole_group"), [("cpu:2", True), ("cpu", False)])
def test_an_interrupt_commits_the_batches_in_flight(
    tmp_path: Path, devices: str, whole_group: bool
) -> None:
    made = deadly(tmp_path, words(70), "seconds: 0.1")
    program = (
        f"import sys; sys.path.insert(0, {str(TOYS)!r})\n"
        "if __name__ == '__main__':\n"
        "    from mercore.cli import main; main()\n"
    )
    (tmp_path / "mer.py").write_text(program)
    command = [sys.executable, "mer.py", "extract", f"--devices={devices}", "--batch=0.01"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    collection = made.store.create("features", "deadly", node_of(made), {})
    end = time.monotonic() + 30
    while len(collection.entries()) < 10 and time.monotonic() < end:
        time.sleep(0.05)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.endswith("Interrupted: what is done is kept; run it again to go on\n")
    done = len(collection.entries())
    assert 10 <= done < 70
    collection.verify()
    assert made.extract()[0].extracted == 70 - done


def node_of(made: Project) -> str:
    return made.pipeline.features["deadly"].fingerprint


# Who gets which samples


def samples(count: int) -> list[Sample]:
    return [Sample(f"s{n}", "test", None, {}) for n in range(count)]


def finish_times(lengths: Sequence[float], speeds: Sequence[float]) -> list[float]:
    """Return when each worker ends that asks for its next part before it begins the last one."""
    ids = {f"s{n}": length for n, length in enumerate(lengths)}
    handout = Handout(samples(len(lengths)), lengths, len(speeds), 2)
    clock = [0.0] * len(speeds)
    parts: list[list[Sequence[Sample]]] = [[] for _ in speeds]
    busy = set(range(len(speeds)))
    while busy:
        worker = min(busy, key=clock.__getitem__)
        while len(parts[worker]) < 2 and (part := handout.next(worker)):
            parts[worker].append(part)
        if not parts[worker]:
            busy.remove(worker)
            continue
        part = parts[worker].pop(0)
        clock[worker] += sum(ids[sample.id] for sample in part) / speeds[worker]
        handout.done(worker, [sample.id for sample in part])
    assert not handout.open
    return clock


@pytest.mark.parametrize("speeds", [[1, 1], [1, 1, 1, 0.25], [1] * 16])
def test_no_worker_ends_long_after_the_others(speeds: Sequence[float]) -> None:
    chance = random.Random(0)
    lengths = [chance.lognormvariate(1, 1) for _ in range(3_000)]
    ends = finish_times(lengths, speeds)
    ideal = sum(lengths) / sum(speeds)
    assert max(ends) < 1.05 * ideal


def test_the_longest_samples_are_handed_out_first_and_each_once() -> None:
    lengths = [3.0, 9.0, 1.0, 5.0]
    handout = Handout(samples(4), lengths, 1, 2)
    seen: list[str] = []
    while part := handout.next(0):
        seen += [sample.id for sample in part]
        handout.done(0, [sample.id for sample in part])
    assert seen == ["s1", "s3", "s0", "s2"]


def test_what_a_worker_loses_is_done_by_others_one_by_one_in_the_end() -> None:
    handout = Handout(samples(16), [1.0] * 16, 4, 2)
    assert handout.next(0) == samples(4)
    assert handout.lost(0) is None
    parts: list[list[str]] = []
    while part := handout.next(1):
        parts.append([sample.id for sample in part])
        handout.done(1, parts[-1])
    assert parts[-4:] == [["s0"], ["s1"], ["s2"], ["s3"]]
    assert sorted(id for part in parts for id in part) == sorted(f"s{n}" for n in range(16))


def test_a_suspect_is_alone_with_its_worker_and_given_up_in_the_end() -> None:
    handout = Handout(samples(2), [1.0, 1.0], 1, retries=2)
    assert handout.next(0) == samples(2)
    assert handout.lost(0) is None
    given_up = []
    for worker in (1, 2, 3, 4):
        assert len(handout.next(worker) or []) == 1
        assert handout.next(worker) == []  # nothing beside it
        given_up.append(handout.lost(worker))
    assert given_up == [None, None, *samples(2)]
    assert handout.next(5) == []


def test_what_a_machine_takes_with_it_is_handed_out_next_and_nobody_is_suspected() -> None:
    handout = Handout(samples(40), [1.0] * 40, 2, retries=1)
    first = handout.next(0)
    assert first
    handout.done(0, [first[0].id])
    handout.returned(0)
    assert list(handout.next(1) or [])[: len(first) - 1] == list(first[1:])
    assert handout.next(1)  # more beside it, as for nobody who may end a worker
    assert not handout.over


def test_a_worker_without_samples_waits_for_those_that_others_may_lose() -> None:
    handout = Handout(samples(1), [1.0], 2, 2)
    assert handout.next(0) == samples(1)
    assert handout.next(1) is None
    handout.done(0, ["s0"])
    assert handout.next(1) == []


def test_one_worker_at_a_time_while_the_rows_are_not_known() -> None:
    handout = Handout(samples(100), [1.0] * 100, 2, 2)
    assert handout.next(0, one=True)
    assert handout.next(0, one=True) == []
    assert handout.next(1, one=True) is None
    assert handout.next(1, one=False)


def test_length_is_counted_in_bytes_and_letters(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(registry("either: {uses: either, inputs: {text: text}}"))
    node = resolve(Registry.read(path), Plugins()).features["either"]
    (tmp_path / "a.wav").write_bytes(b"x" * 300)
    (tmp_path / "b.wav").write_bytes(b"x" * 100)
    given = [
        Sample("a", "test", None, {"audio": str(tmp_path / "a.wav"), "text": "ab"}),
        Sample("b", "test", None, {"audio": str(tmp_path / "b.wav"), "text": "abcdef"}),
        Sample("gone", "test", None, {"audio": str(tmp_path / "c.wav"), "text": "abcd"}),
    ]
    assert lengths_of(node, {}, given) == pytest.approx([2.25 + 0.5, 0.75 + 1.5, 0 + 1.0])
    assert lengths_of(node, {}, []) == []


# Devices


def test_devices_are_counted_out() -> None:
    assert Machine(devices="cuda:0,cuda:1").processes == ("cuda:0", "cuda:1")
    assert Machine(devices="cpu:2, cuda:03").processes == ("cpu", "cpu", "cuda:3")
    assert Machine(devices="cpu").processes == ("cpu",)
    assert Machine().processes == ()


@pytest.mark.parametrize("given", ["gpu", "cpu:0", "cuda", "cuda:x", "cpu:2,", ",", "cpu;cpu"])
def test_what_is_no_device_is_refused(given: str) -> None:
    with pytest.raises(RunError, match=r"devices: '.*': expected cuda:N .* or cpu:N"):
        Machine(devices=given)


def test_a_gpu_that_is_not_there_is_said_before_anything_is_started(tmp_path: Path) -> None:
    made = project(
        tmp_path, "few: {uses: letters, inputs: {text: text}}", words(3), Machine(devices="cuda:99")
    )
    with pytest.raises(RunError, match="'cuda:99' is not there, torch finds"):
        made.extract()


def test_the_command_takes_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, "few: {uses: letters, inputs: {text: text}}", words(20))
    monkeypatch.chdir(tmp_path)
    (row,) = mer_json("extract", "--devices", "cpu:2")
    assert (row["extracted"], row["failed"]) == (20, 0)
    assert row["faster"] == FASTER[row["slowest"]]
    (kept,) = mer_json("status")["current"]
    assert (kept["slowest"], kept["faster"]) == (row["slowest"], row["faster"])
    assert f"slowest is {kept['slowest']} (few): {kept['faster']}" in mer("status").output
    assert len(Store(tmp_path / "mer.zarr")["few"].ids) == 20
    result = mer("extract", "--devices", "gpu")
    assert result.exit_code == 1
    assert result.output.startswith("Error: devices: 'gpu': expected cuda:N")
    assert mer("extract", "--devices", "cpu:2", "--retries", "0").exit_code == 2
