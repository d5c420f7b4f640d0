from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_sets
import pytest
import yaml
from data_sets import put, put_clips, put_csv
from jsonschema import Draft7Validator
from mertools_files import names, vectors, write_feature, write_labels
from run_mer import mer, mer_json

from mercore.cli.init import FORMATS
from mercore.errors import ManifestError
from mercore.layouts import LAYOUTS, choose

ROOT = Path(__file__).parent.parent
MER = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
SENTIMENTS = ["negative", "neutral", "positive"]

Build = Callable[[Path], None]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the data, below the one of the project, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def init(folder: Path, *arguments: str) -> Any:
    """Return what `mer init --json` says; `mer check` must find no mistake in what it writes."""
    about = mer_json("init", str(folder), *arguments)
    checked = mer("check")
    assert checked.exit_code == 0, checked.output
    return about


def refused(*arguments: str) -> str:
    result = mer("init", *arguments)
    assert result.exit_code == 1, result.output
    return result.stderr


def rows() -> dict[str, dict[str, str]]:
    with Path("manifest.csv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def registry() -> Any:
    return yaml.safe_load(Path("registry.yaml").read_text(encoding="utf-8"))


def counts(about: Any) -> dict[str, int]:
    return {split: sum(found.values()) for split, found in about["splits"].items()}


@pytest.mark.parametrize(
    ("build", "layout", "classes", "splits"),
    [
        (data_sets.mer2023, "mer2023", MER,
         {"train": 12, "test1": 6, "test3": 6, "test2": 2, "unlabelled": 4}),
        (data_sets.mer2024, "mer2024", MER, {"train": 12, "test_semi": 2, "unlabelled": 3}),
        (data_sets.mer2025, "mer2025", MER, {"train": 12, "test": 3, "unlabelled": 3}),
        (data_sets.mosi, "mosi", SENTIMENTS, {"train": 8, "test_valid": 2, "test": 2}),
        (data_sets.ch_sims, "ch-sims", SENTIMENTS, {"train": 8, "test_valid": 2, "test": 2}),
        (data_sets.iemocap, "iemocap", ["neutral", "happy", "sad", "angry"],
         {"train": 8, "test": 8}),
        (data_sets.meld, "meld", ["neutral", "joy", "anger"],
         {"train": 9, "test_dev": 8, "test": 9}),
        (data_sets.plain, "plain", ["happy", "sad"], {"train": 8}),
    ],
)  # fmt: skip
def test_each_layout_is_recognised_and_becomes_a_project(
    data: Path, build: Build, layout: str, classes: list[str], splits: dict[str, int]
) -> None:
    build(data)
    about = init(data)
    assert about["layout"] == layout
    assert about["classes"] == registry()["classes"] == classes
    assert counts(about) == splits
    found = rows()
    assert Counter(row["split"] for row in found.values()) == splits
    assert all(row["label"] in classes for row in found.values() if row["split"] == "train")
    schema = json.loads(Path("registry.schema.json").read_text())
    assert list(Draft7Validator(schema).iter_errors(registry())) == []
    first = Path("registry.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=registry.schema.json"


def test_the_formats_of_the_command_are_the_layouts() -> None:
    assert ("auto", *LAYOUTS) == FORMATS


def test_mer_clips_without_labels_are_mined_and_words_are_taken_over(data: Path) -> None:
    data_sets.mer2024(data)
    init(data)
    found = rows()
    assert found["sample_00000000"] | {"video": ""} == {
        "id": "sample_00000000", "split": "train", "label": "neutral", "video": "",
        "text": "你好世界", "english": "Hello world",
    }  # fmt: skip
    assert found["sample_00000000"]["video"] == "data/video-labeled/sample_00000000.mp4"
    assert (found["sample_00000020"]["split"], found["sample_00000020"]["label"]) == (
        "test_semi", "happy",
    )  # fmt: skip
    assert registry()["mining"] == {"split": "unlabelled", "rounds": 4, "agree": 3}
    text = Path("registry.yaml").read_text()
    assert "MiniLM reads English" in text
    assert "words" not in registry()["features"]


def test_labels_that_mertools_makes_up_are_dropped_and_pickles_need_consent(data: Path) -> None:
    data_sets.mer2024_prepared(data)
    assert "--trust-pickles" in refused(str(data))
    assert not Path("manifest.csv").exists()
    about = init(data, "--trust-pickles")
    assert about["layout"] == "mer2024"
    assert about["splits"]["test1"] == {"": 21}
    assert any("all samples of test1 are labelled 'neutral'" in note for note in about["notes"])
    assert rows()["sample_00000003"]["audio"] == "data/audio/sample_00000003.wav"


def test_what_mertools_prepared_is_told_apart_by_its_splits_and_names(data: Path) -> None:
    label = {"a": {"emo": "sad"}}
    for file, splits, layout in (
        ("label-6way.npz", ("train", "test1", "test2", "test3"), "mer2023"),
        ("label-6way.npz", ("train", "test1"), "mer2024"),
        ("track1_label_6way.npz", ("train", "test1"), "mer2025"),
    ):
        write_labels(data / layout / file, **dict.fromkeys(splits, label))
        assert choose(data / layout).name == layout


def test_a_label_file_of_ones_own_takes_the_place_of_that_of_the_layout(data: Path) -> None:
    data_sets.mer2024(data)
    lines = [("sample_00000022", "happy", "train"), ("sample_00000001", "sad", "train")]
    put_csv(data / "mine.csv", "name,discrete,split", lines)
    about = init(data, "--labels", str(data / "mine.csv"))
    assert about["splits"]["train"] == {"happy": 1, "sad": 1}
    assert "--labels" in refused(str(data), "--format", "meld", "--labels", "x", "--overwrite")


def test_the_number_of_a_clip_may_have_lost_its_zeros(data: Path) -> None:
    data_sets.ch_sims(data)
    init(data)
    row = rows()["video_0001_0001"]
    assert (row["video"], row["sentiment"]) == ("data/Raw/video_0001/0001.mp4", "0.0")


def test_mosei_is_told_from_mosi_by_its_name_or_its_size(data: Path) -> None:
    data_sets.mosi(data / "CMU-MOSEI")
    assert choose(data / "CMU-MOSEI").name == "mosei"
    put_csv(data / "label.csv", "video_id,clip_id", [(f"v{n}", 1) for n in range(94)])
    assert choose(data).name == "mosei"


def test_a_sign_stands_for_an_annotation_that_is_not_there(data: Path) -> None:
    lines = [("a", 1, "Yes.", -0.4, "train"), ("a", 2, "No.", 0, "train"), ("a", 3, "", 2, "test")]
    put_csv(data / "label.csv", "video_id,clip_id,text,label,mode", lines)
    put_clips(data / "Raw/a", ["1", "2", "3"])
    init(data)
    assert [row["label"] for row in rows().values()] == SENTIMENTS
    put_csv(data / "label.csv", "video_id,clip_id,text,label,mode", [("a", 1, "", "x", "train")])
    assert "a, 1: label 'x', expected a number" in refused(str(data), "--overwrite")
    put_csv(data / "label.csv", "video_id,clip_id,text,label,mode", [("b", 1, "", 1, "train")])
    assert "no clip with a label; labels without a clip: b_1" in refused(str(data), "--overwrite")


def test_excitement_is_happiness_unless_it_is_a_class(data: Path) -> None:
    data_sets.iemocap(data)
    about = init(data)
    assert about["splits"]["train"] == {"neutral": 2, "happy": 2, "sad": 2, "angry": 2}
    assert any("left out, for they are of no class: 2 frustrated" in x for x in about["notes"])
    text = Path("registry.yaml").read_text()
    assert "# excited counts as happy; --classes neutral,happy,sad,angry,excited" in text
    row = rows()["Ses05F_impro01_F002"]
    assert row == {
        "id": "Ses05F_impro01_F002", "split": "test", "label": "happy",
        "audio": "data/Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_F002.wav",
        "text": "Excuse me.", "session": "Session5", "speaker": "Ses05F", "emotion": "excited",
    }  # fmt: skip
    assert rows()["Ses05F_impro01_M001"]["speaker"] == "Ses05M"
    about = init(data, "--classes", "neutral,excited,happy,frustrated", "--overwrite")
    assert about["classes"] == ["neutral", "excited", "happy", "frustrated"]
    assert about["splits"]["train"] == {"neutral": 2, "excited": 1, "happy": 1, "frustrated": 1}


def test_rows_without_a_clip_and_clips_without_a_row_are_told(data: Path) -> None:
    data_sets.meld(data)
    about = init(data)
    assert about["labels_without_clip"] == ["dev_dia2_utt2"]
    assert rows()["train_dia0_utt1"]["text"] == "Well, “1”!"
    shown = mer("init", str(data), "--overwrite").stdout
    assert "Labels without a clip, left out: 1 (dev_dia2_utt2)" in shown
    assert "Manifest: manifest.csv (26 samples)" in shown
    assert "Next: mer check, then mer run" in shown
    put_clips(data / "dev_splits_complete", ["dia7_utt7"])
    assert "1 clips of dev have no row" in str(init(data, "--overwrite")["notes"])


def test_a_folder_a_class_gives_ids_of_their_own(data: Path) -> None:
    data_sets.plain(data)
    init(data)
    found = rows()
    assert set(found) == {f"{name}_clip_{n}" for name in ("happy", "sad") for n in range(4)}
    assert found["happy_clip_0"]["text"] == "data/happy/clip 0.txt"
    assert registry()["folds"] == 4  # no class has more


def test_folders_may_say_split_and_medium_too(data: Path) -> None:
    for split, first in (("train", 0), ("val", 3), ("test", 6)):
        for label in ("calm", "tense"):
            clips = [f"{label}{n}" for n in range(first, first + 3)]
            put_clips(data / "video" / split / label, clips)
            put_clips(data / "audio" / split / label, clips, "wav")
    put_clips(data / "video/unlabelled", ["rest0"])
    about = init(data)
    assert counts(about) == {"test": 6, "train": 6, "unlabelled": 1, "test_val": 6}
    row = rows()["calm3"]
    assert (row["split"], row["label"], row["audio"]) == (
        "test_val", "calm", "data/audio/val/calm/calm3.wav",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ("name,label", "clip{}"),
        ("File Name,Emotion", "clip{}.mp4"),
        ("path,class", "clips/clip{}.mp4"),
        ("id,target", "clip{}"),
    ],
)
def test_a_csv_of_any_usual_columns_names_the_labels(data: Path, columns: str, name: str) -> None:
    put_clips(data / "clips", [f"clip{n}" for n in range(5)])
    labels = [(name.format(n), ("b", "a")[n % 2]) for n in range(4)]
    put_csv(data / "labels.csv", columns, [*labels, (name.format(9), "a")])
    about = init(data)
    assert about["classes"] == ["a", "b"]
    assert about["labels_without_clip"] == [name.format(9)]
    assert counts(about) == {"train": 4, "unlabelled": 1}
    assert registry()["mining"]["split"] == "unlabelled"


def test_a_csv_may_give_words_splits_and_other_columns(data: Path) -> None:
    put_clips(data, [f"c{n}" for n in range(6)])
    lines = [
        (f"c{n}", "ab"[n % 2], ("train", "train", "dev")[n // 2], "Yes!", "x") for n in range(6)
    ]
    put_csv(
        data / "mine.csv", "name,label,split,transcript,speaker,vidio", [(*x, "?") for x in lines]
    )
    about = init(data, "--classes", "b,a")
    assert about["classes"] == ["b", "a"]
    assert counts(about) == {"train": 4, "test_dev": 2}
    assert rows()["c5"] == {
        "id": "c5", "split": "test_dev", "label": "b", "video": "data/c5.mp4", "text": "Yes!",
        "speaker": "x",
    }  # fmt: skip


def test_recordings_alone_get_no_faces_and_words_from_a_recogniser(data: Path) -> None:
    for label in ("a", "b"):
        put_clips(data / label, [f"{label}{n}" for n in range(3)], "wav")
    about = init(data)
    assert about["features"] == ["speech", "prosody", "words"]
    assert registry()["streams"].keys() == {"transcript"}
    assert registry()["features"]["words"]["inputs"] == {"text": "transcript"}
    assert registry()["branches"] == {
        "all": "speech + prosody + words", "audio": "speech + prosody", "text": "words",
    }  # fmt: skip
    assert "mining" not in registry()


def test_videos_without_sound_get_faces_alone(data: Path) -> None:
    for label in ("a", "b"):
        put_clips(data / label, [f"{label}{n}" for n in range(2)], "silent.mp4")
    about = init(data)
    assert about["features"] == ["face"]
    assert "of 3 videos none has sound that can be read: no features of audio" in about["notes"]
    assert registry()["branches"] == {"all": "face"}


def test_encoders_may_be_named_and_are_wired_by_what_they_read(data: Path) -> None:
    data_sets.plain(data)
    about = init(data, "--features", "loudness,minilm,face_expression")
    assert about["features"] == ["loudness", "words", "face"]
    assert registry()["features"]["loudness"] == {"uses": "loudness", "inputs": {"audio": "audio"}}
    assert "did you mean 'loudness'" in refused(str(data), "--features", "loudnes", "--overwrite")
    shutil.rmtree(data)
    for label in ("a", "b"):
        put_clips(data / label, [f"{label}{n}" for n in range(2)], "wav")
    found = refused(str(data), "--features", "face_expression", "--overwrite")
    assert "encoder 'face_expression' reads video, which no clip has" in found


def test_without_features_the_registry_is_for_the_user_to_finish(data: Path) -> None:
    data_sets.plain(data)
    result = mer("init", str(data), "--features", "none")
    assert result.exit_code == 0
    assert "Next: write features and branches into registry.yaml, then mer check" in result.stdout
    assert "registry.yaml:9: features: " in mer("check").stderr


def test_nothing_is_replaced_unless_it_is_asked_for(data: Path) -> None:
    data_sets.plain(data)
    put(Path("registry.yaml"), "mine")
    assert "registry.yaml: there already; give another folder with --into" in refused(str(data))
    assert Path("registry.yaml").read_text() == "mine"
    assert not Path("manifest.csv").exists()
    init(data, "--overwrite")


def test_files_may_go_elsewhere_and_then_name_the_clips_in_full(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_sets.plain(data)
    shown = mer("init", str(data), "--into", "project").stdout
    assert "Next: cd project, then mer check" in shown
    monkeypatch.chdir(tmp_path / "project")
    assert mer("check").exit_code == 0
    assert rows()["sad_clip_1"]["video"] == str(data / "sad/clip 1.mp4")


def test_words_alone_are_data_too(data: Path) -> None:
    lines = [("t1", "a", "Yes!"), ("t 2", "b", "No."), ("t3", "", "Maybe, maybe not.")]
    put_csv(data / "words.csv", "id,label,sentence", lines)
    assert init(data)["features"] == ["words"]
    assert {name: row["split"] for name, row in rows().items()} == {
        "t1": "train", "t_2": "train", "t3": "unlabelled",
    }  # fmt: skip


def test_chinese_words_are_not_read_by_an_english_encoder(data: Path) -> None:
    put_clips(data, ["c1", "c2"], "wav")
    put_csv(data / "l.csv", "name,label,text", [("c1", "a", "你好"), ("c2", "b", "再见")])
    assert init(data)["features"] == ["speech", "prosody"]
    assert "# words: {uses: minilm" in Path("registry.yaml").read_text()


def test_a_train_sample_without_a_label_is_unlabelled(data: Path) -> None:
    put_clips(data, ["c1", "c2", "c3"], "wav")
    put_csv(
        data / "l.csv",
        "name,label,set",
        [(f"c{n}", x, "train") for n, x in zip((1, 2, 3), ("a", "b", ""), strict=True)],
    )
    assert counts(init(data)) == {"train": 2, "unlabelled": 1}


def test_a_csv_may_name_clips_by_whole_paths_but_never_those_of_another_folder(data: Path) -> None:
    put_clips(data / "x", ["a", "b"])
    put_clips(data / "y", ["c"])
    lines = [(data / "x/a.mp4", "a"), ("data/x/b.mp4", "b"), ("x/c.mp4", "a")]
    put_csv(data / "labels.csv", "file,label", lines)
    about = init(data)
    assert about["labels_without_clip"] == ["x/c.mp4"]
    assert counts(about) == {"train": 2, "unlabelled": 1}


def test_a_class_that_cannot_be_trained_is_told(data: Path) -> None:
    data_sets.meld(data)
    (data / "train_sent_emo.csv").unlink()
    notes = init(data)["notes"]
    assert "no train_sent_emo.csv: nothing of train is used" in notes
    assert "no clip of the train split is labelled neutral, joy, anger" in notes


def make(data: Path, *files: str) -> None:
    for file in files:
        put(data / file, data_sets.clip("wav"))


def test_what_cannot_be_used_is_said_with_what_to_do(data: Path) -> None:
    assert "no such folder" in refused("nowhere")
    assert "no clips in it; expected videos or recordings" in refused(str(data))
    put(Path("file"), "")
    assert "is a file; give a folder with --into" in refused(str(data), "--into", "file")
    make(data, "a.wav", "b.wav")
    assert "2 clips and no label; put them into a folder a class" in refused(str(data))
    assert "is a file; give the folder" in refused(str(data / "a.wav"))
    put(data / "one.csv", "name,label\na,x\nb,y\n")
    put(data / "two.csv", "name,emotion\na,x\nb,y\n")
    assert "which of these has the labels?\n  --labels " in refused(str(data))
    put(data / "two.csv", "file,feeling\na,x\n")
    assert "no column for label: label, emotion" in refused(
        str(data), "--labels", str(data / "two.csv")
    )
    put(data / "one.csv", "name,label\na,x\nb,X\n")
    assert "labels 'X', 'x' differ in case alone" in refused(str(data))
    put(data / "one.csv", "name,label\na,x\nb,x\n")
    assert "the labels are 'x'; at least two classes" in refused(str(data))
    put(data / "one.csv", "name,label\na,x\nb,y\na,x\n")
    assert "'a' is there twice" in refused(str(data))
    put(data / "one.csv", "name,label\na,x\nb,y\n")
    assert "no clip is labelled 'z'; the labels are x, y" in refused(str(data), "--classes", "x,z")
    assert "cannot read" in refused(str(data), "--labels", "none.csv")
    assert not Path("manifest.csv").exists()


def test_what_is_ambiguous_is_an_error_that_names_the_candidates(data: Path) -> None:
    data_sets.meld(data)
    data_sets.mer2024(data)
    found = refused(str(data))
    assert "say which: --format mer2024 or --format meld" in found
    assert init(data, "--format", "meld")["layout"] == "meld"
    make(data / "x", "one/c.wav", "two/c.wav")
    put(data / "x/l.csv", "name,label\nc,a\n")
    assert "'c' may be one/c or two/c; write the path" in refused(str(data / "x"), "--overwrite")
    make(data / "y", "a/c.wav", "a/c.mp3")
    assert "is the audio of the same clip; keep one" in refused(str(data / "y"), "--overwrite")


def test_a_data_set_one_folder_below_is_pointed_at(data: Path) -> None:
    data_sets.meld(data / "MELD.Raw")
    assert "MELD.Raw looks like meld; give that folder" in refused(str(data))


def test_a_layout_that_lacks_its_files_says_so(data: Path) -> None:
    make(data, "a/c.wav")
    for layout, message in {
        "mer2024": "none of label-disdim.csv, label-6way.npz",
        "mosi": "no folder 'Raw'",
        "iemocap": "no Session1 to Session5 in it",
        "meld": "no clip with a label",
    }.items():
        assert message in refused(str(data), "--format", layout)
    with pytest.raises(ManifestError, match="no layout is called 'mled'; did you mean 'meld'"):
        choose(data, "mled")


def test_import_leads_editors_to_a_schema_that_is_there(data: Path, tmp_path: Path) -> None:
    write_feature(tmp_path / "features/a-UTT", vectors(names(6), 3))
    put_csv(tmp_path / "l.csv", "name,discrete", list(zip(names(6), MER, strict=True)))
    command = ["import", "mertools", "features", "--labels", "l.csv", "--fusion", "centroid"]
    assert mer(*command).exit_code == 0
    assert not Path("registry.yaml").read_text().startswith("# yaml")
    assert mer("schema", "--plugins", "--out", "registry.schema.json").exit_code == 0
    assert mer(*command, "--overwrite").exit_code == 0
    assert Path("registry.yaml").read_text().startswith("# yaml-language-server: $schema=")
    assert mer("check").exit_code == 0


def test_a_folder_of_real_clips_runs_to_a_report(data: Path) -> None:
    with (ROOT / "examples/demo/manifest.csv").open() as file:
        wanted = [x for x in csv.DictReader(file) if x["label"] in ("angry", "sad")]
    kept = [x for x in wanted if x["split"] == "train"][:6]
    kept += [x for x in wanted if x["split"] == "test"][:2]
    for row in kept:
        clip = ROOT / "examples/demo" / row["video"]
        put(data / row["split"] / row["label"] / clip.name, clip.read_bytes())
    init(data, "--features", "whisper,prosody,face_expression")
    result = mer("run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("runs/default/report.json").read_text())
    assert [branch["name"] for branch in report["branches"]] == ["all", "audio", "video"]
    assert len(Path("runs/default/predictions.csv").read_text().splitlines()) == 9
