"""A clock that goes backwards: what was committed later counts, whatever the clock says."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from places import Place
from toy_projects import write_project

import mercore
from mercore import Project
from mercore.store import Collection, Row, Store
from mercore.store._segments import INDEXED_COMMITS

HOUR = 3600 * 10**9


@pytest.fixture(autouse=True)
def _backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock finds it an hour earlier than the one before."""
    now, looks = time.time_ns(), count()
    monkeypatch.setattr(time, "time_ns", lambda: now - next(looks) * HOUR)


def opened(place: Place) -> Collection:
    """Return the collection as another process has it, which knows nothing of it yet."""
    return Store(place.path).create("features", "toy", "f", {})


def vectors(value: int, *ids: str) -> list[Row]:
    return [Row(id, np.full((1, 2), value, np.float32)) for id in ids]


def test_the_newest_commit_counts(place: Place) -> None:
    for number in range(5):
        opened(place).commit(vectors(number, "shared", f"s{number}"))
        if number in (0, 2, 3):
            opened(place).compact()
        found = opened(place)
        assert list(found.entries()) == ["shared", *(f"s{n}" for n in range(number + 1))]
        assert found.matrix(["shared", f"s{number}"])[:, 0].tolist() == [number, number]
    opened(place).commit([Row("shared", None, failed="the file changed")])
    for _ in range(2):
        assert opened(place).entries()["shared"].failed == "the file changed"
        assert opened(place).matrix([f"s{n}" for n in range(5)])[:, 0].tolist() == list(range(5))
        opened(place).compact()


def test_no_name_is_taken_twice_and_those_of_a_writer_are_in_order(place: Place) -> None:
    writers = [opened(place), opened(place)]
    for number in range(20):
        writers[number % 2].commit(vectors(number, f"s{number}"))
    keys = [key for key in place.names("features/toy@f/seg") if key != "zarr.json"]
    assert len(keys) == 20
    for writer in {key.split("-")[1] for key in keys}:
        numbers = [int(key.split("-")[2]) for key in keys if key.split("-")[1] == writer]
        assert numbers == sorted(numbers)


def test_what_an_index_object_tells_of_is_found(place: Place) -> None:
    writer = opened(place)
    for number in range(INDEXED_COMMITS + 1):
        writer.commit(vectors(number, f"s{number}"))
    keys = place.names("features/toy@f/seg")[:INDEXED_COMMITS]
    for key in keys:
        place.write(f"features/toy@f/seg/{key}/zarr.json", b"this is not read")
    assert list(opened(place).entries()) == [f"s{n}" for n in range(INDEXED_COMMITS + 1)]


def test_the_feature_that_was_extracted_last_is_meant(tmp_path: Path) -> None:
    def extracted(letters: int) -> Project:
        write_project(tmp_path)
        path = tmp_path / "registry.yaml"
        path.write_text(path.read_text().replace("letters: 3", f"letters: {letters}"))
        project = mercore.open(
            path, manifest=tmp_path / "manifest.csv", store=tmp_path / "mer.zarr", device="cpu"
        )
        project.extract("few")
        return project

    for letters in (3, 4, 3, 5, 4):
        project = extracted(letters)
        assert project.store["few"].matrix(["s0"]).shape == (1, letters)
    before = sorted((tmp_path / "mer.zarr").rglob("marks/*.json"))
    extracted(4)
    assert sorted((tmp_path / "mer.zarr").rglob("marks/*.json")) == before
