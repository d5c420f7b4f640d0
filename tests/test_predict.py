from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from run_mer import mer
from toy_clips import write_wav

from mercore.branches import Fold, Trained
from mercore.clips import samples_of
from mercore.errors import InputError
from mercore.folder import RunFolder
from mercore.predict import Predictor

REGISTRY = """\
classes: [sad, happy]
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}}
  loudness: {uses: loudness, inputs: {audio: audio}}
fusion: centroid
branches:
  one: few
  all: few + loudness
folds: 3
"""

Write = Callable[[str, str], Path]


def predicted(*files: str, status: int = 0) -> list[dict[str, Any]]:
    result = mer("predict", *files, "--json")
    assert result.exit_code == status, result.output
    clips: list[dict[str, Any]] = json.loads(result.stdout)
    return clips


@pytest.fixture
def trained(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run trained on texts with one sound: sad texts say `a`, happy ones `b`."""
    monkeypatch.chdir(tmp_path)
    write("registry.yaml", REGISTRY)
    write_wav(tmp_path / "sound.wav")
    rows = ["id,split,label,text,audio"]
    for number in range(24):
        label, letter = (("sad", "a"), ("happy", "b"))[number % 2]
        split = "train" if number < 18 else "test"
        rows.append(f"s{number},{split},{label},{letter * (1 + number % 3)} c,sound.wav")
    write("manifest.csv", "\n".join(rows) + "\n")
    result = mer("run")
    assert result.exit_code == 0, result.output
    return tmp_path


def test_a_new_clip_gets_what_the_run_gave_the_same_clip(trained: Path, write: Write) -> None:
    with (trained / "runs/default/predictions.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "s20")
    write("new.txt", "aaa c")
    (trained / "new.wav").write_bytes((trained / "sound.wav").read_bytes())
    (clip,) = predicted("new.txt", "new.wav")
    assert clip["label"] == row["predicted"] == "sad"
    found = [clip["probabilities"][name] for name in ("sad", "happy")]
    assert found == pytest.approx([float(row["sad"]), float(row["happy"])], abs=1e-6)
    assert clip["missing"] == {}
    assert clip["branches"]["one"]["label"] == row["branch_one"]
    assert clip["branches"]["all"]["label"] == row["branch_all"]


@pytest.mark.parametrize("ensemble", ["stacking", "mean_logit"])
def test_every_ensemble_decides_a_new_clip_as_it_did_the_same_one(
    trained: Path, write: Write, ensemble: str
) -> None:
    write("registry.yaml", f"{REGISTRY}ensemble: {ensemble}\n")
    assert mer("run").exit_code == 0
    with (trained / "runs/default/predictions.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "s20")
    write("new.txt", "aaa c")
    (trained / "new.wav").write_bytes((trained / "sound.wav").read_bytes())
    (clip,) = predicted("new.txt", "new.wav")
    found = [clip["probabilities"][name] for name in ("sad", "happy")]
    assert found == pytest.approx([float(row["sad"]), float(row["happy"])], abs=1e-5)


def test_there_is_one_line_a_clip_in_the_order_given(trained: Path, write: Write) -> None:
    for stem, words in (("x", "bbb b"), ("y", "aaa a")):
        write(f"{stem}.txt", words)
        (trained / f"{stem}.wav").write_bytes((trained / "sound.wav").read_bytes())
    first, second = mer("predict", "y.txt", "x.txt", "x.wav", "y.wav").stdout.splitlines()
    assert first.startswith("y.txt: sad (sad 0.")
    assert second.startswith("x.txt: happy (sad 0.")
    assert second.endswith("one=happy all=happy")


def test_a_clip_that_lacks_a_medium_is_predicted_from_what_it_has(
    trained: Path, write: Write
) -> None:
    write("x.txt", "bbb b")
    (clip,) = predicted("x.txt")
    assert clip["label"] == "happy"
    assert clip["missing"] == {"loudness": "the manifest gives no audio for this sample"}
    line = mer("predict", "x.txt").stdout
    assert line.endswith("; no loudness: the manifest gives no audio for this sample\n")


def test_the_rows_of_a_manifest_are_predicted(trained: Path, write: Write) -> None:
    write("new.csv", "id,split,text\nfirst,test,aa\nsecond,unlabelled,bb\n")
    clips = predicted("new.csv")
    assert [(clip["id"], clip["label"]) for clip in clips] == [
        ("first", "sad"),
        ("second", "happy"),
    ]


def test_what_cannot_be_used_is_not_guessed(trained: Path, write: Write) -> None:
    write("bad.txt", "refuse")
    write("good.txt", "aaa")
    bad, good = predicted("bad.txt", "good.txt", status=3)
    assert bad["label"] is None
    assert bad["branches"] == {}
    assert bad["missing"]["few"] == "this text is refused"
    assert good["label"] == "sad"
    shown = mer("predict", "bad.txt")
    assert shown.exit_code == 3
    assert shown.stdout.startswith("bad.txt: not predicted; no few: this text is refused; no loud")


def test_a_failed_feature_is_said_and_ends_with_status_3(trained: Path, write: Write) -> None:
    write("clip.txt", "aaa")
    write("clip.wav", "no sound")
    (clip,) = predicted("clip.txt", "clip.wav", status=3)
    assert clip["label"] == "sad"
    assert "cannot be read as media" in clip["missing"]["loudness"]


def test_the_ensemble_is_the_one_that_voted_last(trained: Path, write: Write) -> None:
    write("registry.yaml", REGISTRY + "ensemble: mean_probability\n")
    assert mer("ensemble").exit_code == 0
    assert Predictor.open("runs/default").pipeline.ensemble.name == "mean_probability"


def test_features_are_kept_in_a_store_that_is_given(trained: Path, write: Write) -> None:
    write("x.txt", "bbb b")
    assert mer("predict", "x.txt", "--store", "kept.zarr").exit_code == 0
    before = sorted(Path("kept.zarr").rglob("*"))
    assert mer("predict", "x.txt", "--store", "kept.zarr").exit_code == 0
    assert sorted(Path("kept.zarr").rglob("*")) == before != []


def test_a_clip_beyond_a_limit_is_predicted_with_another(trained: Path, write: Write) -> None:
    clip = str(write_wav(trained / "long.wav", 2.0))
    stored = (clip, "--store", "clips.zarr")
    (first,) = predicted(*stored, "--max-seconds", "1", status=3)
    assert "the limit is 1 s; raise it with --max-seconds" in str(first["missing"])
    assert "the limit is 1 s" in str(predicted(*stored, status=3)[0]["missing"])
    (again,) = predicted(*stored, "--retry-failed")
    assert "the limit" not in str(again["missing"])


def test_clips_outside_of_the_root_are_refused(trained: Path, write: Write) -> None:
    (trained / "inside").mkdir()
    result = mer("predict", "sound.wav", "--root", "inside")
    assert result.exit_code == 1
    assert "sound.wav: lies outside of the root" in result.stderr


def test_without_a_trained_run_the_error_says_what_to_do(tmp_path: Path, write: Write) -> None:
    path = write("x.txt", "bbb")
    result = mer("predict", str(path), "--out", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "no trained run there; `mer run --out DIR` makes one" in result.stderr


def test_features_other_than_those_trained_on_are_refused(trained: Path, write: Write) -> None:
    path = trained / "runs/default/registry.yaml"
    path.write_text(path.read_text().replace("letters: 3", "letters: 2"))
    write("x.txt", "bbb")
    result = mer("predict", "x.txt")
    assert result.exit_code == 1
    assert "branch 'one' was trained on another few" in result.stderr


def test_a_fusion_other_than_the_one_that_was_trained_is_refused(
    trained: Path, write: Write
) -> None:
    path = trained / "runs/default/registry.yaml"
    fusion = "fusion: {uses: centroid, with: {sharpness: 2}}"
    path.write_text(path.read_text().replace("fusion: centroid", fusion))
    result = mer("predict", str(write("x.txt", "bbb")))
    assert result.exit_code == 1
    assert "branch 'one' was trained by another fusion, or with other options" in result.stderr


def test_a_branch_that_is_not_trained_is_named(trained: Path, write: Write) -> None:
    (trained / "runs/default/branches/one/branch.json").unlink()
    write("x.txt", "bbb")
    assert "branch 'one' is not trained; run `mer train`" in mer("predict", "x.txt").stderr


def test_files_with_one_stem_are_one_clip(write: Write) -> None:
    video, words = write("a.mp4", ""), write("a.txt", "")
    sound, other = write("b.wav", ""), write("sub/a.mp4", "")
    samples = samples_of([str(video), str(sound), str(words), str(other)], [])
    assert [sample.media for sample in samples] == [
        {"video": str(video), "text": str(words)},
        {"audio": str(sound)},
        {"video": str(other)},
    ]
    assert [sample.id for sample in samples] == [str(video), str(sound), str(other)]


def test_a_file_that_is_given_twice_is_one_clip(write: Write) -> None:
    video = str(write("a.mp4", ""))
    assert len(samples_of([video, video], [])) == 1


def test_two_videos_of_one_stem_are_refused(write: Write) -> None:
    files = [str(write("a.mp4", "")), str(write("a.mkv", ""))]
    with pytest.raises(InputError, match="is the video of the same clip; keep one"):
        samples_of(files, [])


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4: no such file"):
        samples_of([str(tmp_path / "none.mp4")], [])
    with pytest.raises(InputError, match="is a folder"):
        samples_of([str(tmp_path)], [])


def test_what_folds_have_learnt_is_read_as_it_was_saved(tmp_path: Path) -> None:
    weights: dict[str, NDArray[Any]] = {
        "number": np.array(3, np.int64),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 4), np.float32),
    }
    fold = Fold(weights, {"few": np.ones((1, 3), np.float32)})
    table = np.full((1, 2), 0.5, np.float32)
    folder = RunFolder(tmp_path)
    trained = Trained((fold, fold), table, 0.5, (0.5, 0.5), 0, 1.0)
    folder.save_branch("one", {"key": "k"}, trained, ["a"], ["sad", "happy"])
    assert len(folder.folds("one", 2)) == 2
    for read in folder.folds("one", 2):
        for name, array in weights.items():
            np.testing.assert_array_equal(read.weights[name], array)
            assert read.weights[name].shape == array.shape
        np.testing.assert_array_equal(read.means["few"], fold.means["few"])
