"""Exports are read back with the libraries they are for."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from toy_projects import opened

from mercore import Project
from mercore.cli import main
from mercore.errors import ManifestError, RegistryError, RunError
from mercore.exports import FORMATS, Exported, _columns, export
from mercore.watch import Silent

FORMAT = pytest.mark.parametrize("format", list(FORMATS))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return opened(tmp_path_factory.mktemp("project"), gaps=True)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, though there are few samples."""
    monkeypatch.setattr(_columns, "BLOCK", 5)
    monkeypatch.setattr(_columns, "FRAMES_BLOCK", 5)


def read(path: Path) -> dict[str, Any]:
    """Return ids, labels, splits and features of an export, whatever its format."""
    if path.is_dir():
        with (path / "ids.csv").open(newline="") as file:
            samples = list(csv.DictReader(file))
        texts = {f"{name}s": [row[name] for row in samples] for name in ("id", "label", "split")}
        return texts | {p.stem: np.load(p, allow_pickle=False) for p in path.glob("*.npy")}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if path.suffix == ".hdf5":
        with h5py.File(path) as file:
            return {
                name: data.asstr()[:] if data.dtype == object else data[:]
                for name, data in file.items()
            }
    table = pq.read_table(path)
    return {
        f"{name}s": [v or "" for v in table[name].to_pylist()] for name in ("id", "label", "split")
    } | {
        name: stacked(table[name])
        for name in table.column_names[3:]
        if not name.endswith("_frames")
    }


def stacked(column: pa.ChunkedArray) -> NDArray[Any]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    table: NDArray[Any] = flat.reshape(len(column), -1)
    return table


def place(tmp_path: Path, format: str) -> Path:
    return tmp_path / ("out" if format == "npy" else f"out.{format}")


@FORMAT
def test_what_is_written_is_what_the_store_holds(
    project: Project, tmp_path: Path, format: Any
) -> None:
    to = place(tmp_path, format)
    done = export(project.features, to, format, missing="drop")
    assert (done.samples, done.dropped, dict(done.splits)) == (
        12, 2, {"train": 8, "test": 3, "unlabelled": 1},
    )  # fmt: skip
    found, few = read(to), project.features["few"].present()
    assert list(found["ids"]) == few.ids
    assert list(found["splits"]) == few.samples.splits
    assert list(found["labels"])[-2:] == ["sad", ""]
    for name in ("few", "all"):
        assert found[name].dtype == np.float32
        assert (found[name] == project.features[name].matrix("drop")).all()
    assert [path.name for path in tmp_path.iterdir()] == [to.name]  # nothing half written beside it


@FORMAT
def test_nan_keeps_every_sample(project: Project, tmp_path: Path, format: Any) -> None:
    to = place(tmp_path, format)
    export(project.features, to, format, ["few"], missing="nan", dtype="float16")
    found = read(to)
    assert len(found["ids"]) == 14
    assert found["few"].dtype == np.float16
    expected = project.features["few"].matrix("nan")
    assert np.array_equal(found["few"].astype(np.float32), expected, equal_nan=True)


@pytest.mark.parametrize("format", ["npz", "npy", "hdf5"])
def test_frames_lie_one_after_another(project: Project, tmp_path: Path, format: Any) -> None:
    to = place(tmp_path, format)
    export(project.features, to, format, ["few"], missing="nan", frames=True)
    found = read(to)
    offsets = found["few_offsets"]
    assert offsets.tolist()[:4] == [0, 2, 3, 4]
    parts = np.split(found["few_frames"], offsets[1:-1])
    for part, sequence in zip(parts, project.features["few"].sequences("nan"), strict=True):
        assert np.array_equal(part, sequence.astype(np.float32), equal_nan=True)


def test_frames_in_parquet_are_lists_of_lists(project: Project, tmp_path: Path) -> None:
    done = project.features.export(tmp_path / "a.parquet", "few", missing="drop", frames=True)
    table = pq.read_table(done.path)
    assert table["few_frames"].to_pylist()[2] == [[3, 0, 0], [0, 0, 1]]
    assert pq.ParquetFile(done.path).num_row_groups == 3


def test_parquet_says_what_the_values_are(project: Project, tmp_path: Path) -> None:
    done = project.features.export(tmp_path / "a.parquet", missing="drop")
    schema = pq.read_schema(done.path)
    about = json.loads(schema.metadata[b"mercore"])
    few = about["features"]["few"]
    assert (few["fingerprint"], few["dim"]) == (project.features["few"].fingerprint, 3)
    assert few["component"]["uses"] == "letters"
    assert about["classes"] == ["sad", "happy"]
    assert schema.field("few").metadata[b"fingerprint"].decode() == few["fingerprint"]
    assert schema.field("few").type.list_size == 3
    assert schema.field("few").type.value_type == pa.float32()
    frame = pd.read_parquet(done.path)
    assert pd.isna(frame["label"][11])
    assert np.stack(list(frame["few"])).shape == (12, 3)


def test_the_others_say_so_too(project: Project, tmp_path: Path) -> None:
    features = project.features
    for name in ("a.npz", "a.hdf5", "a"):
        features.export(tmp_path / name, missing="drop")
    with h5py.File(tmp_path / "a.hdf5") as file:
        found = [json.loads(file.attrs["mercore"])]
        assert file["few"].attrs["fingerprint"] == features["few"].fingerprint
    with np.load(tmp_path / "a.npz") as arrays:
        found.append(json.loads(str(arrays["about"])))
    found.append(json.loads((tmp_path / "a/about.json").read_text()))
    assert found[0] == found[1] == found[2]
    assert found[0]["features"]["all"]["fingerprint"] == features["all"].fingerprint


def test_tables_in_memory_are_the_same(project: Project) -> None:
    features = project.features.select(split="test")
    frame = features.to_pandas("few")
    assert list(frame.columns) == ["split", "label", "few_0", "few_1", "few_2"]
    assert frame.index.tolist() == ["s8", "s9", "s10"]
    assert frame["label"].tolist() == ["sad", "happy", "sad"]
    assert (frame.iloc[:, 2:].to_numpy() == features["few"].matrix()).all()
    table = features.to_arrow("few", frames=True)
    assert table.column_names == ["id", "split", "label", "few", "few_frames"]
    assert (stacked(table["few"]) == features["few"].matrix()).all()


@FORMAT
def test_an_export_is_replaced_only_when_asked(
    project: Project, tmp_path: Path, format: Any
) -> None:
    to, test = place(tmp_path, format), project.features.select(split="test")
    export(test, to, format)
    with pytest.raises(RunError, match=r"is there already; .*--overwrite"):
        export(project.features, to, format, missing="drop")
    assert len(read(to)["ids"]) == 3
    export(project.features, to, format, missing="drop", overwrite=True)
    assert len(read(to)["ids"]) == 12
    assert [path.name for path in tmp_path.iterdir()] == [to.name]


def test_a_folder_that_is_no_export_is_never_replaced(project: Project, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("All of it.")
    with pytest.raises(RunError, match=r"holds what is no export \(thesis.tex\)"):
        export(project.features, tmp_path / "mine", "npy", missing="drop", overwrite=True)
    with pytest.raises(RunError, match="is a folder, and a file is to be written"):
        export(project.features, tmp_path / "mine", "npz", missing="drop", overwrite=True)
    assert (tmp_path / "mine/thesis.tex").read_text() == "All of it."


@FORMAT
def test_an_error_leaves_what_was_there(project: Project, tmp_path: Path, format: Any) -> None:
    to, test = place(tmp_path, format), project.features.select(split="test")
    export(test, to, format)

    class Full(Silent):
        def advance(self, name: str, done: int, failed: int) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"cannot write .*: No space left on device; free some"):
        export(test, to, format, overwrite=True, watch=Full())
    assert len(read(to)["ids"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == [to.name]


def test_samples_without_values_are_listed_before_anything_is_written(
    project: Project, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"2 of 14 samples: 'refused' \(this text is refused\)"):
        project.features.export(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    project = opened(tmp_path / "p")
    with (tmp_path / "p/manifest.csv").open("a") as file:
        file.write("big,test,,huge,\n")
    text = (tmp_path / "p/registry.yaml").read_text().replace(", frames: true", "")
    (tmp_path / "p/registry.yaml").write_text(text)
    import mercore

    project = mercore.open(
        tmp_path / "p/registry.yaml", manifest=tmp_path / "p/manifest.csv",
        store=tmp_path / "p/mer.zarr", device="cpu",
    )  # fmt: skip
    project.extract()
    with pytest.raises(RunError, match=r"values up to 1e\+06, which float16 cannot hold"):
        project.features.export(tmp_path / "a.npz", dtype="float16")
    project.features.export(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"to": "a.xlsx"}, r"ending '.xlsx', expected .parquet"),
        ({"to": "a", "format": "cvs"}, "format 'cvs': expected one of parquet, npz, npy, hdf5"),
        ({"to": "a.npz", "dtype": "float8"}, "dtype 'float8': expected one of float32, float16"),
        ({"to": "a.npz", "missing": "skip"}, "missing 'skip': expected 'raise', 'nan' or 'drop'"),
        ({"to": "a.npz", "frames": True}, "'all' is kept as one vector a sample"),
    ],
)
def test_wrong_use_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=said):
        project.features.export(**arguments)


def test_unknown_features_and_splits_are_told(project: Project, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no feature 'fw'; did you mean 'few'"):
        project.features.export(tmp_path / "a.npz", "fw")
    with pytest.raises(ManifestError, match="no sample is in the split 'dev'"):
        project.features.select(split="dev")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("pyarrow", lambda features, folder: features.export(folder / "a.parquet")),
        ("pyarrow", lambda features, folder: features.to_arrow()),
        ("h5py", lambda features, folder: features.export(folder / "a.hdf5")),
        ("pandas", lambda features, folder: features.to_pandas()),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, use: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = rf'needs {package}, which is not installed; run `pip install "mercore\[export\]"`'
    with pytest.raises(RunError, match=said):
        use(project.features.select(split="test"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def mer(project: Project, *arguments: str) -> Result:
    folder = project.folder.path.parent
    files = ["--registry", "registry.yaml", "--manifest", "manifest.csv", "--store", "mer.zarr"]
    places = [word if word.startswith("--") else str(folder / word) for word in files]
    return CliRunner().invoke(main, ["export", *arguments, *places], catch_exceptions=False)


def test_the_command_lists_what_is_missing(project: Project, tmp_path: Path) -> None:
    to = str(tmp_path / "a.npz")
    result = mer(project, "npz", "few", "--to", to)
    assert result.exit_code == 1
    assert "Error: feature 'few' has no values for 2 of 14 samples: 'refused' (" in result.stderr
    result = mer(project, "npz", "few", "--to", to, "--missing", "drop")
    assert result.exit_code == 3, result.output  # one of them has failed
    lines = result.stdout.splitlines()
    assert lines[0] == "few: dim 3; 2 samples have no values"
    assert "refused" in lines[1]
    assert lines[-2] == "12 samples (8 train, 3 test, 1 unlabelled); 2 left out"
    assert lines[-1].startswith(f"{to}: npz, ")


@FORMAT
def test_every_format_is_a_command(project: Project, tmp_path: Path, format: str) -> None:
    to = place(tmp_path, format)
    arguments = [format, "--to", str(to), "--split", "test", "--dtype", "float16", "--json"]
    result = mer(project, *arguments)
    assert result.exit_code == 0, result.output
    about = json.loads(result.stdout)
    assert (about["samples"], about["splits"], about["format"]) == (3, {"test": 3}, format)
    assert [feature["dim"] for feature in about["features"]] == [3, 26]
    assert about["bytes"] > 0
    assert len(read(to)["ids"]) == 3


def test_an_export_names_what_it_came_to(project: Project, tmp_path: Path) -> None:
    done: Exported = project.features.export(tmp_path / "a.npz", "few", missing="drop")
    assert (done.failed, done.bytes) == (True, (tmp_path / "a.npz").stat().st_size)
    assert list(done.features[0].missing) == ["refused", "silent"]
    silent = project.features.select(ids=["silent", "s1"])
    assert not silent.export(tmp_path / "b.npz", "few", missing="drop").failed
    with pytest.raises(RunError, match="nothing to export: no sample has values"):
        project.features.select(ids=["silent"]).export(tmp_path / "c.npz", missing="drop")
