from __future__ import annotations

import pickle

import numpy as np
import pytest
from toy_projects import opened

from mercore import Project
from mercore.errors import ManifestError, RunError
from mercore.rows import SampleRows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return opened(tmp_path_factory.mktemp("project"), gaps=True)


@pytest.fixture(scope="module")
def rows(project: Project) -> SampleRows:
    return project.features.rows("few", "all", missing="drop")


def test_a_row_has_the_sample_and_its_features(rows: SampleRows) -> None:
    row = rows["s2"]
    assert list(row) == ["id", "split", "label", "few", "all"]
    assert (row["id"], row["split"], row["label"]) == ("s2", "train", 0)
    assert row["few"].tolist() == [1.5, 0.0, 0.5]
    assert row["all"].shape == (26,)
    assert rows["s11"]["label"] == -1


def test_rows_are_found_by_id_and_position_and_slice(rows: SampleRows) -> None:
    assert len(rows) == 12
    assert rows[0]["id"] == "s0"
    assert rows[-1]["id"] == "s11"
    assert [row["id"] for row in rows[2:5]] == ["s2", "s3", "s4"]
    assert len(rows[::2]) == 6
    assert rows[2:5]["s3"]["id"] == "s3"
    with pytest.raises(IndexError):
        rows[12]
    with pytest.raises(ManifestError, match="no sample 'refused' among these 12"):
        rows["refused"]


def test_iterating_gives_every_row_once_in_order(rows: SampleRows) -> None:
    found = list(rows)
    assert [row["id"] for row in found] == rows.samples.ids
    assert (np.stack([row["few"] for row in found]) == rows.features[0].present().matrix()).all()


def test_one_feature_is_a_sequence_of_rows_too(project: Project) -> None:
    few = project.features["few"].present()
    assert [row["id"] for row in few] == few.ids
    assert list(few[1]) == ["id", "split", "label", "few"]
    assert few["s2"]["few"].tolist() == [1.5, 0.0, 0.5]
    assert repr(few[:3]) == "SampleFeature('few', samples=3, dim=3)"


def test_select_keeps_the_samples_of_a_split(rows: SampleRows) -> None:
    assert [row["id"] for row in rows.select(split="test")] == ["s8", "s9", "s10"]
    assert {row["label"] for row in rows.select(label="happy")} == {1}


def test_frames_are_sequences(project: Project) -> None:
    rows = project.features.rows("few", missing="drop", frames=True)
    assert rows["s2"]["few"].tolist() == [[3, 0, 0], [0, 0, 1]]
    with pytest.raises(RunError, match="'all' is kept as one vector a sample"):
        project.features.rows(missing="drop", frames=True)


def test_a_sample_without_values_is_an_error_before_anything_is_read(project: Project) -> None:
    with pytest.raises(RunError, match=r"2 of 14 samples: 'refused'"):
        project.features.rows("few")
    with pytest.raises(RunError, match="expected 'raise' or 'drop'"):
        project.features.rows("few", missing="nan")
    with pytest.raises(RunError, match="'refused'"):
        list(project.features["few"])


def test_rows_go_to_another_process(rows: SampleRows) -> None:
    copy = pickle.loads(pickle.dumps(rows))
    assert (copy["s2"]["few"] == rows["s2"]["few"]).all()


def test_a_dataloader_of_torch_takes_them(project: Project, rows: SampleRows) -> None:
    from torch.utils.data import DataLoader

    batches = list(DataLoader(rows, batch_size=5))  # type: ignore[arg-type]
    assert [len(batch["id"]) for batch in batches] == [5, 5, 2]
    assert batches[0]["few"].shape == (5, 3)
    assert batches[0]["label"].tolist() == [0, 1, 0, 1, 0]
    few = project.features["few"].present()
    (batch,) = DataLoader(few, batch_size=12)  # type: ignore[arg-type]
    assert batch["few"].numpy().tolist() == few.matrix().tolist()
