from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mertools_files import Evil, corpus, names, sequences, vectors, write_feature, write_labels
from numpy.typing import NDArray

from mercore.errors import ManifestError, RegistryError, RunError
from mercore.machine import Machine
from mercore.mertools import (
    CLASSES,
    Destination,
    Import,
    export_mertools,
    import_mertools,
    read_labels,
)
from mercore.project import Project
from mercore.watch import Silent

IDS = names(12)
HUBERT = vectors(IDS, 4)
CLIP = sequences(IDS, 3)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder of two features: one pooled, one as sequences."""
    write_feature(tmp_path / "features/chinese-hubert-large-UTT", HUBERT)
    write_feature(tmp_path / "features/clip_FRA", CLIP)
    return tmp_path / "features"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Eight samples to train on, two to test; two have no label."""
    return write_labels(
        tmp_path / "label-6way.npz", train=corpus(IDS[:8]), test1=corpus(IDS[8:10], 1.5)
    )


def imported(tmp_path: Path, folders: Sequence[Path], labels: Path, **options: Any) -> Import:
    to = Destination(
        tmp_path / "manifest.csv", tmp_path / "registry.yaml", tmp_path / "mer.zarr", overwrite=True
    )
    return import_mertools(
        folders, labels, to=to, trust_pickles=True, **{"fusion": "centroid"} | options
    )


def opened(tmp_path: Path) -> Project:
    return Project.open(
        tmp_path / "registry.yaml",
        tmp_path / "manifest.csv",
        tmp_path / "mer.zarr",
        out=tmp_path / "run",
        create=True,
        machine=Machine("cpu"),
    )


def files(folder: Path) -> dict[str, NDArray[Any]]:
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


def same(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> bool:
    return found.keys() == expected.keys() and all(
        found[id].dtype == np.float32 and np.array_equal(found[id], expected[id]) for id in expected
    )


def test_what_is_imported_is_found_done_by_every_command(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    done = imported(tmp_path, [features], labels)
    assert done.splits == {"train": 8, "test1": 2, "unlabelled": 2}
    assert [(f.name, f.dim, f.frames, f.new, f.failed) for f in done.features] == [
        ("chinese_hubert_large", 4, False, 12, {}),
        ("clip", 3, True, 12, {}),
    ]
    project = opened(tmp_path)
    assert [outcome.extracted for outcome in project.extract()] == [0, 0]
    store = project.store
    assert np.array_equal(
        store["chinese_hubert_large"].matrix(IDS), np.stack([HUBERT[id] for id in IDS])
    )
    assert np.allclose(store["clip"].matrix(IDS), np.stack([CLIP[id].mean(axis=0) for id in IDS]))
    kept = store["clip"].sequences(IDS)
    assert same(dict(zip(IDS, kept, strict=True)), CLIP)


def test_an_imported_feature_trains_branches_and_lets_them_vote(
    tmp_path: Path,
) -> None:
    ids = names(30)
    folder = write_feature(tmp_path / "x-UTT", vectors(ids, 8))
    labels = write_labels(tmp_path / "label.npz", train=corpus(ids[:24]))
    imported(tmp_path, [folder], labels)
    with (tmp_path / "registry.yaml").open("a") as file:
        file.write("folds: 2\n")
    project = opened(tmp_path)
    assert project.train() == ["all"]
    decided = project.ensemble().labels[24:]
    assert [CLASSES[label] for label in decided] == list(CLASSES)


def test_a_pooled_and_a_frame_folder_of_one_name_are_one_feature(
    tmp_path: Path, labels: Path
) -> None:
    utt = write_feature(tmp_path / "x-UTT", {id: HUBERT[id][None] for id in IDS})  # (1, dim)
    fra = write_feature(tmp_path / "x-FRA", sequences(IDS, 4))
    (feature,) = imported(tmp_path, [utt, fra], labels).features
    assert feature.frames
    kept = opened(tmp_path).store["x"]
    assert np.array_equal(kept.matrix(IDS), np.stack([HUBERT[id] for id in IDS]))
    assert same(dict(zip(IDS, kept.sequences(IDS), strict=True)), sequences(IDS, 4))


def test_the_same_files_are_not_imported_again_and_others_are_another_feature(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    first = imported(tmp_path, [features], labels)
    again = imported(tmp_path, [features], labels)
    assert [feature.new for feature in again.features] == [0, 0]
    changed = features / "chinese-hubert-large-UTT" / f"{IDS[3]}.npy"
    np.save(changed, HUBERT[IDS[3]] + 1)
    third = imported(tmp_path, [features], labels)
    assert [feature.new for feature in third.features] == [12, 0]
    assert third.features[0].fingerprint != first.features[0].fingerprint
    assert third.features[1].fingerprint == first.features[1].fingerprint
    found = opened(tmp_path).store["chinese_hubert_large"].matrix([IDS[3]])
    assert np.array_equal(found[0], HUBERT[IDS[3]] + 1)  # the last import is meant


def test_an_import_that_was_interrupted_goes_on(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Silent):
        def advance(self, name: str, done: int, failed: int) -> None:
            if name == "x" and done:
                raise KeyboardInterrupt

    folder = write_feature(tmp_path / "x-UTT", HUBERT)
    monkeypatch.setattr("mercore.mertools._fill._SEGMENT", 5 * 144)  # bytes of a file
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, [folder], labels, watch=Impatient())
    assert not (tmp_path / "registry.yaml").exists()
    (feature,) = imported(tmp_path, [folder], labels).features
    assert feature.new == 7
    found = opened(tmp_path).store["x"].matrix(IDS)
    assert np.array_equal(found, np.stack([HUBERT[id] for id in IDS]))


def test_sequences_that_are_missing_are_told_too(tmp_path: Path, labels: Path) -> None:
    utt = write_feature(tmp_path / "x-UTT", HUBERT)
    fra = write_feature(tmp_path / "x-FRA", {id: HUBERT[id][None] for id in IDS[2:]})
    (feature,) = imported(tmp_path, [utt, fra], labels).features
    assert feature.failed == dict.fromkeys(IDS[:2], "x-FRA: no file of this sample")
    assert len(opened(tmp_path).store["x"].ids) == 12


def test_a_file_that_changes_while_it_is_imported_ends_the_import(
    tmp_path: Path, labels: Path
) -> None:
    folder = write_feature(tmp_path / "x-UTT", HUBERT)

    class Meddler(Silent):
        def start(self, name: str, total: int) -> None:
            if name == "x":
                np.save(folder / f"{IDS[5]}.npy", HUBERT[IDS[5]] + 1)

    with pytest.raises(RunError, match=rf"{IDS[5]}.npy: changed meanwhile; import again"):
        imported(tmp_path, [folder], labels, watch=Meddler(), memory=0)


@pytest.mark.parametrize("memory", [0, 200, 2**20])
def test_memory_decides_what_is_read_twice_and_nothing_else(
    tmp_path: Path, labels: Path, memory: int
) -> None:
    folder = write_feature(tmp_path / "x-UTT", HUBERT)
    imported(tmp_path, [folder], labels, memory=memory)
    found = opened(tmp_path).store["x"].matrix(IDS)
    assert np.array_equal(found, np.stack([HUBERT[id] for id in IDS]))


def test_where_the_files_lie_and_how_they_are_written_makes_no_other_feature(
    tmp_path: Path, labels: Path
) -> None:
    one = write_feature(tmp_path / "one/x-UTT", HUBERT)
    doubles = {id: values.astype(np.float64)[None] for id, values in HUBERT.items()}
    two = write_feature(tmp_path / "two/x-UTT", doubles)
    first, second = (imported(tmp_path, [folder], labels).features[0] for folder in (one, two))
    assert first.fingerprint == second.fingerprint


def test_a_sample_without_a_usable_file_fails_alone(tmp_path: Path, labels: Path) -> None:
    rest = {id: HUBERT[id] for id in IDS[1:]}
    folder = write_feature(tmp_path / "x-UTT", rest)
    write_feature(tmp_path / "y-UTT", HUBERT)
    np.save(folder / f"{IDS[1]}.npy", np.array([1, np.nan, 0, 0]))
    np.save(folder / f"{IDS[2]}.npy", np.array([{"a": 1}], dtype=object))
    whole = (folder / f"{IDS[3]}.npy").read_bytes()
    (folder / f"{IDS[3]}.npy").write_bytes(whole[:-3])
    (folder / f"{IDS[4]}.npy").write_bytes(b"")
    np.save(folder / f"{IDS[5]}.npy", np.full(4, 1e300))
    np.save(folder / f"{IDS[6]}.npy", np.zeros((0, 4)))
    feature, whole_one = imported(tmp_path, [tmp_path], labels).features
    assert whole_one.failed == {}
    assert feature.failed == {
        IDS[0]: "x-UTT: no file of this sample",
        IDS[1]: "x-UTT: NaN or infinite values",
        IDS[2]: "x-UTT: found pickled objects, not numbers",
        IDS[3]: "x-UTT: cut off: found 13 of 16 bytes",
        IDS[4]: "x-UTT: not an .npy file",
        IDS[5]: "x-UTT: NaN or infinite values",
        IDS[6]: "x-UTT: no values",
    }
    outcomes = opened(tmp_path).extract()
    assert [(len(outcome.failed), outcome.extracted) for outcome in outcomes] == [(7, 0), (0, 0)]


@pytest.mark.parametrize(
    ("level", "array", "shape"),
    [
        ("UTT", np.zeros((3, 4), np.float32), "(3, 4)"),
        ("UTT", np.zeros(5, np.float32), "(5,)"),
        ("UTT", np.float32(1), "()"),
        ("FRA", np.zeros((2, 3, 4), np.float32), "(2, 3, 4)"),
        ("FRA", np.zeros((2, 5), np.float32), "(5,)"),
    ],
)
def test_files_of_another_shape_are_named_before_anything_is_written(
    tmp_path: Path, labels: Path, level: str, array: NDArray[Any], shape: str
) -> None:
    folder = write_feature(tmp_path / f"x-{level}", HUBERT)
    for id in IDS[2:4]:
        np.save(folder / f"{id}.npy", array)
    with pytest.raises(RunError) as caught:
        imported(tmp_path, [folder], labels)
    assert "x: 2 of 12 files are of another shape, expected (4,) a UTT file" in str(caught.value)
    assert f"{folder / IDS[3]}.npy: {shape}" in str(caught.value)
    assert not (tmp_path / "mer.zarr").exists()
    assert not (tmp_path / "manifest.csv").exists()


def test_all_wrong_folders_are_reported_at_once(tmp_path: Path, labels: Path) -> None:
    (tmp_path / "empty-UTT").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "file-UTT").write_text("")
    one = write_feature(tmp_path / "one/x-UTT", HUBERT)
    two = write_feature(tmp_path / "two/x-UTT", HUBERT)
    alike = write_feature(tmp_path / "X_UTT", HUBERT)
    given = [tmp_path / name for name in ("none-UTT", "empty-UTT", "other", "file-UTT")]
    with pytest.raises(RunError) as caught:
        imported(tmp_path, [*given, one, two, alike], labels)
    found = str(caught.value)
    assert "none-UTT: no such folder" in found
    assert "empty-UTT: no .npy file in it; expected one a sample" in found
    assert "other: expected NAME-UTT or NAME-FRA, or a folder of such folders" in found
    assert "file-UTT: is a file; give the folder of the .npy files" in found
    assert f"{two}: {one} is x-UTT too; give one of them" in found
    assert "x, X: all would be feature 'x'; rename a folder" in found


def test_names_become_what_a_registry_can_hold(tmp_path: Path, labels: Path) -> None:
    for name in ("Baichuan-13B.Base-UTT", "3d-UTT", "text-UTT"):
        write_feature(tmp_path / "features" / name, HUBERT)
    done = imported(tmp_path, [tmp_path / "features"], labels)
    pairs = [(feature.name, feature.source) for feature in done.features]
    assert pairs == [
        ("f_3d", "3d"), ("baichuan_13b_base", "Baichuan-13B.Base"), ("f_text", "text")
    ]  # fmt: skip
    assert set(opened(tmp_path).pipeline.features) == {name for name, _ in pairs}


def test_a_labelled_sample_without_any_file_is_a_mistake_unless_it_is_left_out(
    tmp_path: Path, features: Path
) -> None:
    ids = names(30, start=6)
    labels = write_labels(tmp_path / "label.npz", train=corpus(ids))
    with pytest.raises(ManifestError) as caught:
        imported(tmp_path, [features], labels)
    assert "24 of 30 labelled samples have no file in any folder: 'sample_00000012'" in str(
        caught.value
    )
    done = imported(tmp_path, [features], labels, skip_missing=True)
    assert done.splits == {"train": 6, "unlabelled": 6}
    assert done.notes == ["24 labelled samples without features were left out"]
    strangers = write_labels(tmp_path / "label.npz", train=corpus(names(3, start=50)))
    with pytest.raises(ManifestError, match="3 of 3 labelled samples"):
        imported(tmp_path, [features], strangers, skip_missing=True)


def test_a_test_split_that_is_neutral_throughout_has_no_labels(
    tmp_path: Path, features: Path
) -> None:
    ids = names(30)
    write_feature(features / "all-UTT", vectors(ids, 2))
    neutral = {id: {"emo": "neutral", "val": -10} for id in ids[10:]}
    labels = write_labels(tmp_path / "label.npz", train=corpus(ids[:10]), test1=neutral)
    done = imported(tmp_path, [features], labels)
    assert done.notes == [
        "all samples of test1 are labelled 'neutral', as MERTools does where it knows no label; "
        "taken as not labelled"
    ]
    assert {sample.label for sample in opened(tmp_path).manifest.samples[10:]} == {None}


def test_words_become_the_text_of_the_manifest(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    path = tmp_path / "transcription.csv"
    path.write_text(
        f'\ufeffname,chinese,english\n{IDS[0]},你好。,"Well, hello."\n{IDS[1]},,\n', "utf-8"
    )
    imported(tmp_path, [features], labels, transcripts=path)
    first, second, *_ = opened(tmp_path).manifest.samples
    assert (first.media, first.extra["english"]) == ({"text": "你好。"}, "Well, hello.")
    assert (second.media, second.extra["english"]) == ({}, "")


def test_a_registry_that_is_there_is_not_replaced_unasked(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    (tmp_path / "registry.yaml").write_text("mine")
    to = Destination(tmp_path / "m.csv", tmp_path / "registry.yaml", tmp_path / "mer.zarr")
    with pytest.raises(RunError, match=r"registry.yaml: there already; .* or --overwrite"):
        import_mertools([features], labels, to=to, trust_pickles=True)
    assert (tmp_path / "registry.yaml").read_text() == "mine"


def test_what_comes_out_is_what_went_in(tmp_path: Path, features: Path, labels: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text(f"name,chinese,english\n{IDS[0]},你好,Hi\n", "utf-8")
    before = imported(tmp_path, [features], labels, transcripts=words)
    done = export_mertools(opened(tmp_path), tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "features").iterdir()) == [
        "chinese-hubert-large-UTT", "clip-FRA", "clip-UTT"
    ]  # fmt: skip
    assert same(files(out / "features/chinese-hubert-large-UTT"), HUBERT)
    assert same(files(out / "features/clip-FRA"), CLIP)
    assert done.labelled == {"train": 8, "test1": 2}
    given, found = (read_labels(path, trust_pickles=True) for path in (labels, done.labels))
    assert found == given
    assert (out / "transcription.csv").read_text("utf-8").splitlines()[1] == f"{IDS[0]},你好,Hi"
    manifest = (tmp_path / "manifest.csv").read_text()
    after = imported(
        tmp_path, [out / "features"], out / "label.csv", transcripts=out / "transcription.csv"
    )
    assert (tmp_path / "manifest.csv").read_text() == manifest
    assert after.features[0].fingerprint == before.features[0].fingerprint
    assert same(dict(zip(IDS, opened(tmp_path).store["clip"].sequences(IDS), strict=True)), CLIP)


def test_mertools_own_reading_of_labels_and_features_works_on_an_export(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    imported(tmp_path, [features], labels)
    out = export_mertools(opened(tmp_path), tmp_path / "out", ["chinese_hubert_large"])
    with np.load(out.labels, allow_pickle=True) as archive:
        read = archive["train_corpus"].tolist()
    assert read[IDS[1]] == {"emo": "angry", "val": -10.0}
    assert [folder.name for folder in (tmp_path / "out/features").iterdir()] == [
        "chinese-hubert-large-UTT"
    ]
    assert np.load(tmp_path / f"out/features/chinese-hubert-large-UTT/{IDS[1]}.npy").shape == (4,)


def test_an_export_mixes_with_nothing_and_stays_in_its_folder(
    tmp_path: Path, features: Path, labels: Path
) -> None:
    imported(tmp_path, [features], labels)
    project = opened(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note.txt").write_text("mine")
    with pytest.raises(RunError, match="full: not an empty folder"):
        export_mertools(project, tmp_path / "full")
    with pytest.raises(RegistryError, match="no feature 'clp'; did you mean 'clip'"):
        export_mertools(project, tmp_path / "out", ["clp"])
    text = (tmp_path / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(text.replace(IDS[0], "../../stranger"))
    with pytest.raises(RunError, match=r"feature 'chinese_hubert_large' lacks 1 of 12 samples"):
        export_mertools(opened(tmp_path), tmp_path / "out")


def test_an_id_or_a_source_that_names_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(
        "classes: [a, b]\nfeatures: {x: {uses: letters, inputs: {text: text}}}\n"
    )
    (tmp_path / "manifest.csv").write_text("id,split,text\n../up,test,hi\n")
    project = opened(tmp_path)
    project.extract()
    with pytest.raises(RunError, match=r"ids that cannot be names of files: '../up'"):
        export_mertools(project, tmp_path / "out")
    (tmp_path / "registry.yaml").write_text(
        "classes: [a, b]\nfeatures:\n"
        "  x: {uses: imported, with: {source: ../up, digest: '0123456789abcdef', width: 3}}\n"
    )
    with pytest.raises(RegistryError, match=r"with.source"):
        opened(tmp_path)


def test_a_feature_of_an_encoder_is_exported_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(
        "classes: [a, b]\nfeatures: {x: {uses: letters, inputs: {text: text}, frames: true}}\n"
    )
    (tmp_path / "manifest.csv").write_text("id,split,text\none,test,a b\ntwo,test,refuse\n")
    project = opened(tmp_path)
    project.extract()
    (feature,) = export_mertools(project, tmp_path / "out").features
    assert (feature.samples, feature.failed) == (1, 1)
    (values,) = files(tmp_path / "out/features/x-FRA").values()
    assert (values.dtype.name, values.shape) == ("float32", (2, 26))
    assert np.array_equal(np.load(tmp_path / "out/features/x-UTT/one.npy"), values.mean(axis=0))


def test_other_classes_may_be_given(tmp_path: Path, features: Path) -> None:
    labels = tmp_path / "label.csv"
    labels.write_text(
        "name,discrete\n" + "".join(f"{id},{'yes' if id in IDS[:6] else 'no'}\n" for id in IDS)
    )
    imported(tmp_path, [features], labels, classes=("yes", "no"))
    assert opened(tmp_path).pipeline.classes == ("yes", "no")


def test_a_feature_that_is_pickled_runs_nothing(tmp_path: Path, labels: Path) -> None:
    mark = tmp_path / "mark"
    folder = write_feature(tmp_path / "x-UTT", HUBERT)
    np.save(folder / f"{IDS[0]}.npy", np.array([Evil(mark)], dtype=object))
    (feature,) = imported(tmp_path, [folder], labels).features
    assert feature.failed == {IDS[0]: "x-UTT: found pickled objects, not numbers"}
    assert not mark.exists()
