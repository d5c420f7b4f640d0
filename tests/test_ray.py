"""The engine of a Ray cluster: two nodes on this machine, and the same results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from places import KEYS, Prefix, Server
from ray.cluster_utils import Cluster
from run_mer import mer
from text_projects import project, stored, words

from mercore.engines._cluster import connect, share
from mercore.engines._messages import Task
from mercore.engines._ray import check_node
from mercore.errors import RunError
from mercore.fits import fits_of
from mercore.machine import Machine
from mercore.project import Project
from mercore.store import Store
from mercore.target import header
from mercore.watch import Silent
from mercore_toys import Letters

TOYS = Path(__file__).parent / "toys"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster(server: Server) -> Iterator[Cluster]:
    """A head and one more node, a core each, which have the plugin and can reach the S3 server."""
    with pytest.MonkeyPatch.context() as patch:
        given = {**KEYS, "AWS_ENDPOINT_URL": server.url, "PYTHONPATH": str(TOYS)}
        for name, value in given.items():
            patch.setenv(name, value)
        head = {**NODE, "no_monitor": True, "include_log_monitor": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def machine(cluster: Cluster) -> Machine:
    return Machine(batch=0.01, engine="ray", address=cluster.address, retries=1)


class Killer(Silent):
    """Kills a node of the cluster once two dozen samples of a feature are done."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.done = 0

    def advance(self, name: str, done: int, failed: int) -> None:
        self.done += done if name == self.name else 0
        if self.done >= 24 and self.cluster.worker_nodes:
            (node,) = self.cluster.worker_nodes
            self.cluster.remove_node(node, allow_graceful=False)


# First, while there are two nodes: the second does not come back.


def test_a_node_that_dies_costs_nothing_and_the_values_are_those_of_one_process(
    tmp_path: Path, s3: Prefix, cluster: Cluster, machine: Machine
) -> None:
    features = "few: {uses: letters, inputs: {text: text}, frames: true}"
    texts = words(150) | {"bad": "refuse this", "sick": "nan"}
    one = project(tmp_path / "one", features, texts, Machine("cpu"))
    watch = Killer(cluster, "few")
    two = replace(
        project(tmp_path / "two", features, texts, machine), store=Store(s3.path), watch=watch
    )
    failed = [made.extract()[0].failed for made in (one, two)]
    assert not cluster.worker_nodes
    assert watch.done == 152
    assert failed[0] == failed[1]
    assert stored(one.store) == stored(two.store)
    assert two.extract()[0].extracted == 0


def deadly(folder: Path, texts: dict[str, str], machine: Machine, options: str = "") -> Project:
    features = f"deadly: {{uses: deadly, inputs: {{text: text}}, with: {{{options}}}}}"
    return project(folder, features, texts, machine)


def test_a_sample_that_kills_its_workers_is_found_and_given_up(
    tmp_path: Path, machine: Machine
) -> None:
    texts = {"long": "a" * 30, "more": "b" * 20, "bad": "die"}
    made = deadly(tmp_path, texts, machine)
    (outcome,) = made.extract()
    assert outcome.failed == {"bad": "ended the worker process (it crashed or was killed) once"}
    assert sorted(made.features["deadly"].present().ids) == ["long", "more"]


def test_a_scheduler_that_ends_the_run_has_the_batches_in_flight_committed(
    tmp_path: Path, machine: Machine
) -> None:
    made = deadly(tmp_path, words(200), machine, "seconds: 0.1")
    program = f"import sys; sys.path.insert(0, {str(TOYS)!r}); from mercore.cli import main; main()"
    options = ["--engine=ray", f"--address={machine.address}", "--batch=0.01", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "extract", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    node = made.pipeline.features["deadly"]
    about = header(node, made.pipeline)
    collection = made.store.create("features", "deadly", node.fingerprint, about)
    end = time.monotonic() + 60
    while len(collection.entries()) < 5 and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    assert said == ""
    assert errors.endswith("Interrupted: what is done is kept; run it again to go on\n")
    assert 5 <= len(collection.entries()) < 200
    collection.verify()


# Training

TRAINED = """\
classes: [few, many]
features: {letters: {uses: letters, inputs: {text: text}, with: {letters: 4}}}
branches:
  one: {features: letters, uses: attention, with: {hidden: 4, epochs: 3}}
  two: {features: letters, uses: linear}
folds: 3
"""


def test_branches_and_draws_are_those_of_one_process(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "registry.yaml").write_text(TRAINED)
    rows = ["id,split,label,text"]
    for number in range(30):
        text = "a" * (1 + number % 2) + "bcd" * (number % 5)
        rows.append(f"s{number},train,{('few', 'many')[number % 2]},{text}")
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, ""]))
    found = []
    for name, where in (("one", Machine("cpu")), ("two", machine)):
        files = (tmp_path / "registry.yaml", tmp_path / "manifest.csv", tmp_path / "mer.zarr")
        made = Project.open(*files, out=tmp_path / name, create=True, machine=Machine("cpu"))
        made.extract()
        assert replace(made, machine=where).search(3).train() == ["one", "two"]
        written = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        found.append(
            {
                path.relative_to(tmp_path / name): path.read_bytes()
                for path in written
                if path.name not in ("branch.json", ".lock")  # it has the seconds
            }
        )
    assert len(found[0]) == 17
    assert found[0] == found[1]


# What is wrong is said


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    project(tmp_path, "few: {uses: letters, inputs: {text: text}}", words(3))
    monkeypatch.chdir(tmp_path)
    result = mer("extract", "--engine", "ray")
    assert result.exit_code == 1
    assert 'run `pip install "mercore[ray]"`' in result.output
    with pytest.raises(RunError, match=r"mercore\[ray\]"):
        fits_of(Machine(engine="ray"))


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(RunError, match=r"no Ray cluster at address '127\.0\.0\.1:1': .*refused"):
        connect("127.0.0.1:1")


def test_a_node_that_is_not_like_this_machine_is_refused(tmp_path: Path) -> None:
    made = project(tmp_path, "few: {uses: letters, inputs: {text: text}}", words(3))
    node = made.pipeline.features["few"]
    task = Task(node, made.pipeline, made.store, made.machine, 1, False)
    here = os.getcwd()
    with pytest.raises(RunError, match=r"there is no '/nowhere', as there is where mer was"):
        check_node(task, here, ["/nowhere"])
    with pytest.raises(RunError, match=r"mer\.zarr: is not the store that it is where mer was"):
        check_node(task, here, [])
    made.store.create("features", "few", node.fingerprint, header(node, made.pipeline))
    check_node(task, here, [])
    other = replace(node, component=Letters(letters=3))
    with pytest.raises(RunError, match="'letters' has another version, or other weights"):
        check_node(replace(task, node=other), here, [])


def test_workers_share_the_cores_of_nodes_of_any_size() -> None:
    assert share([cpus(16), cpus(16)], 2, "cpu") == 16
    assert share([cpus(16), cpus(16)], 8, "cpu") == 4
    assert share([cpus(16), cpus(2)], 2, "cpu") == 8
    assert share([cpus(2)], 5, "cpu") == 1  # three wait until there is room
    assert share([cpus(64) | {"GPU": 8.0}, cpus(8)], 8, "cuda") == 8


def cpus(count: float) -> dict[str, float]:
    return {"CPU": count}


def test_the_example_of_a_cluster_is_one_to_ray() -> None:
    schema = Path(ray.__file__).parent / "autoscaler/ray-schema.json"
    example = Path(__file__).parent.parent / "examples/ray/cluster.yaml"
    jsonschema.validate(yaml.safe_load(example.read_text()), json.loads(schema.read_text()))


def test_options_that_do_not_go_together_are_refused() -> None:
    for options, said in (
        ({"engine": "slurm"}, "engine 'slurm': expected local or ray"),
        ({"workers": 2}, "workers 2: is for engine 'ray' alone"),
        ({"address": "local"}, "address 'local': is for engine 'ray' alone"),
        ({"engine": "ray", "devices": "cpu:2"}, "devices 'cpu:2': is for engine 'local'"),
        ({"engine": "ray", "device": "cuda:1"}, "'cuda:1': on a Ray cluster expected auto, cpu or"),
        ({"engine": "ray", "workers": -1}, "workers -1: expected 0 or more"),
        ({"engine": "ray", "address": "ray://head:10001"}, "expected auto, local or HOST:PORT"),
    ):
        with pytest.raises(RunError, match=said):
            Machine(**options)
