from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mertools_files import Evil, corpus, names, write_labels

from mercore.errors import ManifestError, MercoreError
from mercore.mertools import read_labels, read_transcripts

IDS = names(12)


def test_labels_of_csv_are_train_unless_they_say_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "label.csv"
    path.write_text("name,discrete,valence\na,happy,1.5\nb,,\nc, sad ,-10\n")
    assert [(x.name, x.split, x.label, x.valence) for x in read_labels(path)] == [
        ("a", "train", "happy", "1.5"), ("b", "unlabelled", "", ""), ("c", "train", "sad", "")
    ]  # fmt: skip
    path.write_text("name,discrete,split\na,happy,test2\nb,,test1\nc,sad,val\n")
    assert [x.split for x in read_labels(path)] == ["test2", "test1", "test_val"]


def test_labels_of_an_npz_may_be_numbers_and_numpy_values(tmp_path: Path) -> None:
    path = write_labels(
        tmp_path / "label.npz",
        train={"a": {"emo": 2, "val": np.float64(0.5)}, np.str_("b"): {"emo": np.str_("sad")}},
        val={"c": {"emo": np.int64(0), "val": -10}},
        test1={"d": {"emo": -10, "val": np.float32(2)}},
    )
    assert [
        (x.name, x.split, x.label, x.valence) for x in read_labels(path, trust_pickles=True)
    ] == [
        ("a", "train", "happy", "0.5"), ("b", "train", "sad", ""),
        ("c", "test_val", "neutral", ""), ("d", "test1", "", "2"),
    ]  # fmt: skip


def test_all_wrong_labels_are_reported_at_once(tmp_path: Path) -> None:
    path = write_labels(
        tmp_path / "label.npz",
        train={"a": {"emo": "hapy"}, "b": {"emo": 6}, "c": {"emo": -10}, "d": {"emo": "sad"}},
        test1={"d": {"emo": "sad"}},
    )
    with pytest.raises(ManifestError) as caught:
        read_labels(path, trust_pickles=True)
    found = str(caught.value)
    assert "'a': label 'hapy' is not a class; did you mean 'happy'?" in found
    assert "'b': label 6 is not a class; the classes are neutral, angry" in found
    assert "'c': no label, though it is in train" in found
    assert "'d': there 2 times" in found
    many = {str(number): {"emo": "joy"} for number in range(50)}
    with pytest.raises(ManifestError, match=r"\.\.\. and 30 more"):
        read_labels(write_labels(path, train=many), trust_pickles=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot read"),
        ("none.npz", None, "cannot read"),
        ("a.npz", b"name,discrete\n", "cannot read"),
        ("a.csv", b"name,discret\na,sad\n", "no column 'discrete' in ['name', 'discret']; did you"),
        ("a.csv", b"name,discrete\n", "no labels"),
        ("a.csv", b"name,discrete\na,sad,b\n", "a.csv:2: more fields than columns"),
        ("a.csv", b'name,discrete\n"a', "unexpected end"),
        ("a.csv", b"name,discrete\n\xff,sad\n", "not UTF-8 at byte 14"),
    ],
)
def test_a_label_file_that_is_none_is_said_to_be_so(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_labels(tmp_path / name)


def test_an_npz_of_something_else_is_said_to_be_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", x=np.zeros(3))
    with pytest.raises(ManifestError, match=r"holds x.npy; expected dicts NAME_corpus"):
        read_labels(tmp_path / "plain.npz")
    with pytest.raises(ManifestError, match="train_corpus: found list, expected a dict"):
        read_labels(write_labels(tmp_path / "a.npz", train=[1, {}]), trust_pickles=True)
    with pytest.raises(ManifestError, match=r"'a': found 'happy', expected \{'emo'"):
        read_labels(write_labels(tmp_path / "a.npz", train={"a": "happy"}), trust_pickles=True)


def test_transcripts_that_are_none_are_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,french\na,oui\n")
    with pytest.raises(ManifestError, match="no column 'chinese' or 'english' in"):
        read_transcripts(path)
    path.write_text("name,english\na,yes\na,no\n")
    with pytest.raises(ManifestError, match="there twice: 'a'"):
        read_transcripts(path)
    path.write_text("name,english\na,yes\n")
    assert read_transcripts(path) == {"a": {"english": "yes"}}


@pytest.mark.parametrize("trusted", [False, True])
def test_a_pickle_that_would_run_code_runs_none(tmp_path: Path, trusted: bool) -> None:
    mark = tmp_path / "mark"
    path = write_labels(tmp_path / "label.npz", train={"a": {"emo": Evil(mark), "val": 0}})
    message = "found 'posix.mkdir'" if trusted else "are pickled, and pickles of strangers can run"
    with pytest.raises(ManifestError, match=message):
        read_labels(path, trust_pickles=trusted)
    assert not mark.exists()
    with np.load(path, allow_pickle=True) as archive:  # it is as bad as it claims to be
        archive["train_corpus"]
    assert mark.exists()


def write_pickle(path: Path, data: bytes) -> Path:
    """Write an npz whose only array is said to hold the pickle."""
    write_labels(path, train={})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("train_corpus.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_corpus.npy", content[: content.index(b"\n") + 1] + data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hidden", [os.system, Path("/"), np.datetime64("2024"), Evil(Path("/no"))])
def test_nothing_but_plain_values_is_made_of_a_pickle(
    tmp_path: Path, protocol: int, hidden: object
) -> None:
    data = pickle.dumps({"a": {"emo": hidden}}, protocol)
    with pytest.raises(ManifestError, match="expected dicts, lists, texts and numbers alone"):
        read_labels(write_pickle(tmp_path / "a.npz", data), trust_pickles=True)


def test_a_damaged_pickle_is_an_error_and_no_crash(tmp_path: Path) -> None:
    labels = {**corpus(IDS), "x": {"emo": np.str_("sad"), "val": np.float64(1), "l": [1, (2,)]}}
    whole = pickle.dumps(np.array(labels, dtype=object), 4)
    random = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        data = bytearray(whole[: None if number % 2 else random.integers(len(whole))])
        for at in random.integers(max(1, len(data)), size=3) if data else ():
            data[at] = random.integers(256)
        try:
            read_labels(write_pickle(tmp_path / "a.npz", bytes(data)), trust_pickles=True)
        except MercoreError:
            refused += 1
    assert refused > 250


def test_a_pickle_that_holds_itself_is_an_error(tmp_path: Path) -> None:
    ring: dict[str, Any] = {}
    ring["a"] = ring
    with pytest.raises(ManifestError, match="more than 20 containers inside each other"):
        read_labels(write_pickle(tmp_path / "a.npz", pickle.dumps(ring)), trust_pickles=True)
