"""The engine of a Ray cluster: two nodes on this machine, and the same results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import ray
from ray.cluster_utils import Cluster
from text_projects import project, stored, words

from mercore.machine import Machine

TOYS = Path(__file__).parent / "toys"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and one more node, a core each."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(TOYS))  # where the plugin is that the nodes must have
    head = {**NODE, "no_monitor": True, "include_log_monitor": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.add_node(**NODE)
    yield found
    ray.shutdown()
    found.shutdown()
    patch.undo()


@pytest.fixture
def machine(cluster: Cluster) -> Machine:
    return Machine(batch=0.01, engine="ray", address=cluster.address)


def test_a_node_that_dies_costs_nothing(tmp_path: Path, cluster: Cluster, machine: Machine) -> None:
    features = "few: {uses: letters, inputs: {text: signed}, frames: true}"
    texts = words(60) | {"bad": "refuse this", "sick": "nan"}
    found = []
    for name, where in (("one", Machine(device="cpu")), ("two", machine)):
        made = project(tmp_path / name, features, texts, where, "signed: {uses: sign}")
        outcomes = made.extract()
        found.append((stored(made.store), {one.node.name: one.failed for one in outcomes}))
    assert found[0] == found[1]
