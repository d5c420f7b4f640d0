from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_clips import write_wav
from toy_projects import opened, write_project

import mercore
from mercore import MercoreError, Project, Text
from mercore.errors import ManifestError, RegistryError, RunError, StoreError
from mercore.running import run
from mercore.watch import Terminal, showing


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return opened(tmp_path)


@pytest.fixture
def gappy(tmp_path: Path) -> Project:
    """A project with a sample that failed and one that has no words."""
    return opened(tmp_path, gaps=True)


def test_opening_imports_neither_numpy_nor_a_plugin_before_it_is_used() -> None:
    code = "import sys, mercore; assert not {'numpy', 'pydantic'} & set(sys.modules); mercore.open"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_matrix_has_the_samples_of_the_manifest_in_their_order(project: Project) -> None:
    few = project.features["few"]
    matrix = few.matrix()
    assert matrix.dtype == np.float32
    assert matrix.shape == (12, 3)
    assert few.ids == list(project.ids)
    assert matrix[2].tolist() == [1.5, 0.0, 0.5]  # the mean of `aaa` and `c`
    assert few.labels.tolist() == project.labels.tolist()
    assert few.dim == 3


def test_samples_without_values_are_an_error_that_says_why(gappy: Project) -> None:
    few = gappy.features["few"]
    assert few.missing == {
        "refused": "this text is refused",
        "silent": "the manifest gives no text for this sample",
    }
    with pytest.raises(RunError, match=r"2 of 14 samples: 'refused' \(this text is refused\), "):
        few.matrix()
    with pytest.raises(RunError, match="or missing='drop'"):
        few.sequences()
    with pytest.raises(RunError, match=r"no values for 1 of 1 samples: 'refused'"):
        few.vector("refused")


def test_or_nan_or_left_out(gappy: Project) -> None:
    few = gappy.features["few"]
    whole, there = few.matrix("nan"), few.matrix("drop")
    assert np.isnan(whole).all(axis=1).tolist() == [id in few.missing for id in few.ids]
    assert (whole[~np.isnan(whole).any(axis=1)] == there).all()
    assert few.present().ids == [id for id in few.ids if id not in few.missing]
    assert (few.present().matrix() == there).all()
    assert few.present().missing == {}
    sequences = few.sequences("nan")
    assert [len(sequence) for sequence in sequences[:4]] == [2, 1, 1, 2]
    assert np.isnan(sequences[1]).all()
    assert len(few.sequences("drop")) == 12


def test_another_word_for_missing_is_refused(project: Project) -> None:
    with pytest.raises(RunError, match="missing 'none': expected 'raise', 'nan' or 'drop'"):
        project.features["few"].matrix("none")  # type: ignore[arg-type]


def test_one_sample_has_a_vector_and_a_sequence(project: Project) -> None:
    few = project.features["few"]
    assert few.vector("s2").tolist() == [1.5, 0.0, 0.5]
    assert few.sequence("s2").tolist() == [[3, 0, 0], [0, 0, 1]]
    with pytest.raises(ManifestError, match=r"no sample 's22' among these 12; did you mean 's2'"):
        few.vector("s22")
    with pytest.raises(RunError, match="one vector a sample; set 'frames: true'"):
        project.features["all"].sequence("s2")


def test_a_selection_holds_for_matrix_and_labels(project: Project) -> None:
    test = project.features.select(split="test")
    assert test.ids == ["s8", "s9", "s10"]
    assert test["few"].matrix().shape == (3, 3)
    assert test.labels.tolist() == [0, 1, 0]
    assert test.splits == ["test"] * 3
    assert project.features["few"].select(label="happy", split="test").ids == ["s9"]
    assert project.features["few"].select(ids=["s9", "s1"]).ids == ["s1", "s9"]
    assert project.features["few"].select(ids="s1").ids == ["s1"]
    with pytest.raises(ManifestError, match="no sample is in the split 'tset'; did you mean"):
        project.features.select(split="tset")
    with pytest.raises(RunError, match="no class 'hapy'; did you mean 'happy'"):
        project.features.select(label="hapy")


def test_matrices_of_several_features_have_the_same_samples(gappy: Project) -> None:
    tables = gappy.features.matrices(missing="drop")
    assert {name: table.shape for name, table in tables.items()} == {
        "few": (12, 3),
        "all": (12, 26),
    }
    assert gappy.features.matrices("all", missing="nan")["all"].shape == (14, 26)
    with pytest.raises(RunError, match="give missing='nan'"):
        gappy.features.matrices()


def test_a_feature_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    write_project(tmp_path)
    project = mercore.open(
        tmp_path / "registry.yaml", manifest=tmp_path / "manifest.csv", store=tmp_path / "mer.zarr"
    )
    with pytest.raises(RunError, match=r"run project.extract\(\['few'\]\), or `mer extract few`"):
        project.features["few"]
    with pytest.raises(RegistryError, match="no feature 'fw'; did you mean 'few'"):
        project.features["fw"]
    with pytest.raises(RegistryError, match=r"no feature 'loud'; project.streams has it"):
        project.features["loud"]
    assert "few" in project.features
    assert list(project.features) == ["few", "all"]


def test_a_sample_that_is_new_in_the_manifest_is_not_extracted_yet(
    project: Project, tmp_path: Path
) -> None:
    with (tmp_path / "manifest.csv").open("a") as file:
        file.write("new,test,,a b,\n")
    again = mercore.open(
        tmp_path / "registry.yaml", manifest=tmp_path / "manifest.csv", store=tmp_path / "mer.zarr"
    )
    said = r"'new' \(not extracted yet\); run project.extract\(\['few'\]\)"
    with pytest.raises(RunError, match=said):
        again.features["few"].matrix()
    again.extract("few")  # one name alone
    assert again.features["few"].matrix().shape == (13, 3)


def test_a_stream_gives_its_texts_and_records(gappy: Project) -> None:
    loud = gappy.streams["loud"]
    assert loud["s2"] == Text("AAA C!")
    assert loud[0] == Text("A C!")
    assert loud.record("s2") == {}
    assert loud.texts("empty")[:3] == ["A C!", "", ""]
    assert len(loud.texts("drop")) == 12
    with pytest.raises(RunError, match=r"'refused' \(nothing to shout\)"):
        loud.texts()
    with pytest.raises(RegistryError, match="'text' is a column of the manifest"):
        gappy.streams["text"]
    with pytest.raises(RegistryError, match=r"no stream 'few'; project.features has it"):
        gappy.streams["few"]


def test_what_a_notebook_shows_is_short(gappy: Project) -> None:
    assert repr(gappy).startswith("Project(")
    assert "features=['few', 'all'], branches=['one', 'both']" in repr(gappy)
    assert repr(gappy.features["few"]) == "SampleFeature('few', samples=14, dim=3, missing=2)"
    assert repr(gappy.streams["loud"]) == "SampleStream('loud', words, samples=14, missing=2)"
    assert repr(gappy.features) == "SampleFeatures(['few', 'all'], samples=14)"
    row = "<tr><td>few</td><td>letters</td><td>3</td><td>12</td><td>2</td></tr>"
    assert row in gappy._repr_html_()


def test_a_run_is_one_call(project: Project, tmp_path: Path) -> None:
    told: list[int] = []
    done = run(project, extracted=lambda outcomes: told.append(len(outcomes)))
    assert told == [2]
    assert (done.trained, list(done.rounds), done.failed) == (["one", "both"], [], False)
    assert done.report.page == tmp_path / "run/report.html"
    assert json.loads((tmp_path / "run/report.json").read_text()) == done.report.content
    assert project.run().trained == []
    assert [result.samples for result in project.status()] == [12, 12, 12]


def test_predictions_are_typed(project: Project, tmp_path: Path) -> None:
    project.run()
    (tmp_path / "clip.txt").write_text("bb c")
    (clip,) = project.predict([tmp_path / "clip.txt"])
    assert clip.label == "happy"
    assert clip.votes == {"one": "happy", "both": "happy"}
    assert clip.probabilities["happy"] > 0.5
    assert set(clip.branches) == {"one", "both"}
    (same,) = project.predict(str(tmp_path / "clip.txt"))  # one file alone
    assert same.probabilities == clip.probabilities


def test_a_run_folder_predicts_without_registry_and_manifest(
    project: Project, tmp_path: Path
) -> None:
    project.run()
    for name in ("registry.yaml", "manifest.csv"):
        (tmp_path / name).unlink()
    (tmp_path / "clip.txt").write_text("bb c")
    predictor = mercore.Predictor.open(tmp_path / "run")
    (clip,) = predictor.predict_files([tmp_path / "clip.txt"], store=tmp_path / "clips.zarr")
    assert clip.label == "happy"
    assert (tmp_path / "clips.zarr").is_dir()


def test_no_files_give_no_predictions_but_an_error(project: Project) -> None:
    project.run()
    with pytest.raises(MercoreError, match="no files"):
        project.predict([])


def test_without_create_a_store_must_be_there(tmp_path: Path) -> None:
    write_project(tmp_path)
    registry, manifest = tmp_path / "registry.yaml", tmp_path / "manifest.csv"
    with pytest.raises(StoreError, match="no store there"):
        mercore.open(registry, manifest=manifest, store=tmp_path / "none.zarr", create=False)
    assert not (tmp_path / "none.zarr").exists()


def test_progress_shows_bars_while_work_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(Terminal()) as watch:
        assert type(watch).__name__ == "Bars"
        watch.start("speech", 2)
        watch.advance("speech", 2, 0)
    quiet = Terminal()
    quiet.start("speech", 1)  # outside of work nothing is drawn
    assert capsys.readouterr().err == ""  # no terminal, no bars


def test_a_feature_of_media_comes_from_a_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    (tmp_path / "manifest.csv").write_text("id,split,label,audio\na,test,,a.wav\n")
    (tmp_path / "registry.yaml").write_text(
        "classes: [sad, happy]\n"
        "streams: {half: {uses: halve, inputs: {audio: audio}}}\n"
        "features: {loud: {uses: loudness, inputs: {audio: half}}}\n"
    )
    project = mercore.open(
        tmp_path / "registry.yaml",
        manifest=tmp_path / "manifest.csv",
        store=tmp_path / "mer.zarr",
        device="cpu",
    )
    project.extract()
    assert project.features["loud"].matrix().shape == (1, 1)
    assert project.streams["half"]["a"].rate == 16_000  # type: ignore[union-attr]
    with pytest.raises(RunError, match="stream 'half' is audio, it has no words"):
        project.streams["half"].texts()
