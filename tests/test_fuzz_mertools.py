"""No feature file, label file or language model of others ends in a traceback."""

from __future__ import annotations

import gzip
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mertools_files import corpus, names, write_labels
from mutations import FUZZ, damaged, told, twisted

from mercore.errors import CheckpointError, InputError, ManifestError
from mercore.mertools import read_labels
from mercore.mertools._folders import Folder
from mercore.mertools._labels import read_transcripts
from mercore.mertools._pickles import RefusedError, read_pickle
from mercore.ngrams import read_arpa

SEEDS = st.integers(0, 2**32)
ARPA = (Path(__file__).parent / "data" / "letters.arpa").read_bytes()
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def npy(header: str, data: bytes = bytes(24), version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin-1") + b"\n"
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


def read_feature(folder: Path, content: bytes) -> None:
    (folder / "a.npy").write_bytes(content)
    with told(InputError, folder.name):
        values = Folder(folder, frozenset(["a"]), True).read("a")
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


@FUZZ
@given(seed=SEEDS, version=st.sampled_from([b"\1\0", b"\2\0", b"\3\0"]))
def test_damaged_npy(folder: Path, seed: int, version: bytes) -> None:
    read_feature(folder, damaged(npy(HEADER, version=version), random.Random(seed)))


@FUZZ
@given(
    kind=st.sampled_from(["'<f4'", "'O'", "'U9'", "'m8'", "[('a', '<f4')]", "','", "1", "'<f16'"]),
    order=st.sampled_from(["False", "True", "1", "None"]),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, -1, -6, 2**31, 2**63, 10**30]), max_size=4),
)
def test_odd_headers_of_npy(folder: Path, kind: str, order: str, shape: list[int]) -> None:
    header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {tuple(shape)}}}"
    read_feature(folder, npy(header))


@pytest.mark.parametrize("header", ["(" * 5000, "{", "'", "{[]: 1}", "[" * 200, "\\N{x}", "é\0"])
def test_headers_that_are_no_dict(folder: Path, header: str) -> None:
    (folder / "a.npy").write_bytes(npy(header))
    with pytest.raises(InputError):
        Folder(folder, frozenset(["a"]), True).read("a")


def test_a_shape_below_zero_is_refused(folder: Path) -> None:
    (folder / "a.npy").write_bytes(npy(HEADER.replace("2", "-2")))
    with pytest.raises(InputError, match=r"found shape \(-2, 3\)"):
        Folder(folder, frozenset(["a"]), True).read("a")


def labels(path: Path) -> None:
    with told(ManifestError, path.name):
        assert read_labels(path, trust_pickles=True)


@FUZZ
@given(seed=SEEDS)
def test_damaged_label_archives(folder: Path, seed: int) -> None:
    whole = write_labels(folder / "whole.npz", train=corpus(names(3)), test1=corpus(names(2)))
    (folder / "labels.npz").write_bytes(damaged(whole.read_bytes(), random.Random(seed)))
    labels(folder / "labels.npz")


@FUZZ
@given(seed=SEEDS)
def test_twisted_labels(folder: Path, seed: int) -> None:
    labels(
        write_labels(folder / "labels.npz", train=twisted(corpus(names(3)), random.Random(seed)))
    )


@FUZZ
@given(seed=SEEDS, content=st.binary(max_size=64))
def test_damaged_pickles_in_an_archive_that_is_whole(
    folder: Path, seed: int, content: bytes
) -> None:
    array = np.array(corpus(names(3)), dtype=object)
    chance = random.Random(seed)
    data = damaged(pickle.dumps(array, chance.randint(0, 5)), chance) + content
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    with zipfile.ZipFile(folder / "labels.npz", "w") as archive:
        archive.writestr("train_corpus.npy", npy(header, data))
    labels(folder / "labels.npz")


@FUZZ
@given(seed=SEEDS)
def test_damaged_label_tables(folder: Path, seed: int) -> None:
    table = b"name,discrete,valence,chinese\na,happy,0.5,x\nb,sad,,y\nc,,-10,\n"
    (folder / "labels.csv").write_bytes(damaged(table, random.Random(seed)))
    labels(folder / "labels.csv")
    with told(ManifestError, "labels.csv"):
        read_transcripts(folder / "labels.csv")


def test_deep_tuples_as_a_key_do_not_exhaust_the_stack() -> None:
    deep = b"\x80\x04}(K\x01" + b"\x85" * 100_000 + b"K\x01u."
    with pytest.raises(RefusedError, match="found a tuple as a key"):
        read_pickle(deep)


def test_lists_that_hold_each_other_are_told_of_in_short(tmp_path: Path) -> None:
    lists: Any = ["ha"]
    for _ in range(12):
        lists = [lists] * 10  # 10^12 atoms in a kilobyte
    for wrong in ({"a": lists}, {"a": {"emo": lists}}, {"a": {"emo": 1, "val": lists}}):
        path = write_labels(tmp_path / "labels.npz", train=wrong)
        with pytest.raises(ManifestError, match=r"'a': found (a )?list, expected"):
            read_labels(path, trust_pickles=True)


def arpa(folder: Path, content: bytes) -> None:
    path = folder / "lm.arpa"
    path.write_bytes(content)
    with told(CheckpointError, str(path)):
        model = read_arpa(path)
        model.score(model.start(), "a")


@FUZZ
@given(seed=SEEDS, zipped=st.booleans())
def test_damaged_language_models(folder: Path, seed: int, zipped: bool) -> None:
    chance = random.Random(seed)
    if zipped:
        arpa(folder, damaged(gzip.compress(ARPA), chance))
    else:
        arpa(folder, damaged(ARPA, chance))


@pytest.mark.parametrize(
    "line", ["ngram 1=" + "9" * 5000, "ngram " + "1" * 5000 + "=1", "ngram 1=1e9"]
)
def test_a_count_of_too_many_digits_is_no_count(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(f"\\data\\\n{line}\n\n\\1-grams:\n")
    with pytest.raises(CheckpointError, match=r"lm.arpa:2: .* expected a line like 'ngram 1=200'"):
        read_arpa(path)
