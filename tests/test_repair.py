"""A damaged byte anywhere in a store is found, named and dropped, and nothing else with it."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import Folder, Place, Prefix
from pydantic import JsonValue

from mercore.cli import main
from mercore.errors import DamagedError, StoreError
from mercore.store import Collection, Row, Store
from mercore.store._base import Grid
from mercore.store._compact import clean, publish_base
from mercore.store._disk import LocalFiles
from mercore.store._view import load_view

FOLDER = "features/toy@f1"
HEADER: dict[str, JsonValue] = {"component": "toy", "dim": 3}
IDS = [f"clip{number}" for number in range(66)]
KINDS = re.compile(r"\d{14}-\w+-\d+|\d{6}-\w+")


def row(id: str) -> Row:
    """Return a sample, of 0 to 3 rows unlike those of any other."""
    number = IDS.index(id)
    if number % 9 == 8:
        return Row(id, None, failed="no face")
    values = np.arange(3 * (number % 4), dtype=np.float32).reshape(-1, 3) + 100 * number
    return Row(id, values, f"source {number}", {"score": number})


def fill(store: Store) -> Collection:
    """Commit all samples, most of which are compacted into several files, a segment each."""
    collection = store.create("features", "toy", "f1", HEADER)
    collection.commit([Row(IDS[-1], None, failed="tried too early")])
    for id in IDS[:60]:
        collection.commit([row(id)])
    if isinstance(store.path, Path):
        files = LocalFiles(store.path / FOLDER)
        assert publish_base(files, load_view(files, {}), Grid(4, 8))
        clean(files, load_view(files, {}).pointer)
    else:
        collection.compact()
    for id in IDS[60:]:  # with the third of these an idx object is due
        collection.commit([row(id)])
    collection.note({"samples": 80, "wall": 1.0})
    return collection


def contents(store: Store) -> Mapping[str, object]:
    """Return all that is known of each sample, with its values."""
    collection = store.collection("features", "toy", "f1")
    assert collection
    collection.verify()
    known = collection.entries()
    good = [id for id, entry in known.items() if entry.failed is None]
    values = dict(zip(good, map(np.ndarray.tolist, collection.sequences(good)), strict=True))
    return {id: (entry, values.get(id)) for id, entry in known.items()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store; it is copied, never changed."""
    path = tmp_path_factory.mktemp("kept") / "mer.zarr"
    fill(Store(path))
    return path


@pytest.fixture
def path(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "mer.zarr"))


@dataclass(frozen=True)
class Case:
    """A byte of a file that is changed."""

    key: str
    at: int

    def damage(self, place: Place) -> None:
        data = bytearray(place.read(self.key))
        data[self.at] ^= 1 << self.at % 8
        place.write(self.key, bytes(data))


def files_of_each_kind(place: Place) -> list[str]:
    """Return the first and the last of each kind of file."""
    kinds: dict[str, list[str]] = {}
    for key in place.all():
        kinds.setdefault(KINDS.sub("*", key), []).append(key)
    return sorted({each[at] for each in kinds.values() for at in (0, -1)})


def cases(place: Place, times: int) -> list[Case]:
    """Return bytes to change, the same ones each time."""
    chance = random.Random(0)
    return [
        Case(key, chance.randrange(len(place.read(key))))
        for key in files_of_each_kind(place)
        for _ in range(times)
    ]


def in_the_name_of_a_checksum(place: Place, case: Case) -> bool:
    """Return whether the byte is one of what a checksum is found by: it is not missed then."""
    found = re.search(rb'\{?"(document_)?crc32c":"?', place.read(case.key))
    return found is not None and found.start() <= case.at < found.end()


def most_lost(key: str) -> int:
    """Return how many samples may be lost with a byte of a file."""
    if re.search(r"/base/0.*/(zarr\.json|ids/c\.0|offsets/c\.0)", key):
        return 60  # whose rows are whose is not known any more
    if "/base/0" in key:
        return 3  # the one, and those whose rows go on in another file
    if re.search("/seg/0.*/zarr.json", key):
        return 8  # the one, and failures that may have been made good in it
    return 1 if "/seg/0" in key else 0


def repair(path: str | Path, *, dry_run: bool = False) -> list[str]:
    """Return the files that are damaged."""
    store = Store(path, create=False)
    found = store.repair(dict.fromkeys(store.folders(), HEADER), dry_run=dry_run)
    return [each.file for each in found]


def check_repair(place: Place, case: Case, before: Mapping[str, object]) -> None:
    unmissed = in_the_name_of_a_checksum(place, case)
    case.damage(place)
    if mended := Store.mend(place.path):
        named = [mended.file]
    else:
        named = repair(place.path, dry_run=True)
        assert repair(place.path) == named
    assert repair(place.path) == [], "it is repaired"
    after = contents(Store(place.path, create=False))
    assert {id: before[id] for id in after} == after, "and what is left is right"
    assert unmissed or [
        case.key.startswith(each.removeprefix(f"{place.path}/")) for each in named
    ] == [True]
    lost = before.keys() - after.keys()
    assert len(lost) <= most_lost(case.key), case
    collection = Store(place.path).collection("features", "toy", "f1")
    assert collection
    collection.commit([row(id) for id in sorted(lost)])
    assert contents(Store(place.path)) == before


def test_a_changed_byte_anywhere_is_named_and_drops_its_samples(kept: Path, tmp_path: Path) -> None:
    before = contents(Store(kept))
    for number, case in enumerate(cases(Folder(kept), 2)):
        copy = tmp_path / str(number)
        shutil.copytree(kept, copy)
        check_repair(Folder(copy), case, before)
        shutil.rmtree(copy)


def test_what_is_damaged_on_s3_is_named_and_dropped(s3: Prefix) -> None:
    collection = Store(s3.path).create("features", "toy", "f1", HEADER)
    collection.commit([row(id) for id in IDS[:8]])
    collection.compact()
    collection.commit([row("clip9"), row("clip10")])
    collection.commit([row("clip11")])
    before = contents(Store(s3.path))
    keys = [key for key in s3.all() if re.search(r"/data/c\.|/seg/0.*zarr\.json", key)][:2]
    for key in keys:
        Case(key, 40).damage(s3)
    assert repair(s3.path) == [f"{s3.path}/{key}" for key in reversed(keys)]
    assert repair(s3.path) == []
    lost = before.keys() - contents(Store(s3.path)).keys()
    assert lost == {"clip3", "clip9", "clip10"}
    collection.commit([row(id) for id in lost])
    assert contents(Store(s3.path)) == before


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_only_what_a_disk_cannot_read_any_more_is_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    read, bad = Path.read_bytes, next((path / FOLDER / "seg").glob("0*/c.*"))

    def reading(self: Path) -> bytes:
        if self == bad:
            raise OSError(number, os.strerror(number))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", reading)
    if number == errno.EIO:
        assert repair(path) == [str(bad)]
        return
    with pytest.raises(StoreError, match="check the permissions") as caught:
        repair(path)
    assert not isinstance(caught.value, DamagedError)
    assert bad.exists(), "nothing is dropped"


def test_a_file_that_is_gone_or_cut_is_named(path: Path) -> None:
    first, second, third = sorted((path / FOLDER / "seg").glob("0*/c.*"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (index,) = (path / FOLDER / "idx").iterdir()
    index.write_bytes(b"{}")
    assert set(repair(path)) == {str(first), str(second), str(index)}
    assert repair(path) == []
    assert not index.exists()
    assert third.exists() is False, "the others are compacted"


# The command

REGISTRY = """\
classes: [sad, happy]
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 5}, frames: true}
  all: {uses: letters, inputs: {text: text}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment that is extracted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = [f"s{number},train,sad,{'a' * number} b" for number in range(20)]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,split,label,text", *rows]))
    assert mer("extract", "--batch=0.01").exit_code == 0
    return tmp_path


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def flip(pattern: str) -> Path:
    """Change a byte of the only such file."""
    (path,) = Path("mer.zarr").glob(pattern)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    return path


def test_repair_extracts_again_what_was_damaged_and_nothing_else(folder: Path) -> None:
    before = shown()
    assert "nothing is damaged" in mer("repair", "--dry-run").output
    flip("frames/few@*/base/0*/data/c.0.0")
    flip("features/all@*/zarr.json")
    result = mer("repair", "few", "--dry-run")
    assert result.exit_code == 3
    assert re.search(r"c\.0\.0: found crc32c \w+, expected \w+; 1 sample lost: s1\n", result.output)
    result = mer("repair", "--json")
    assert result.exit_code == 0, result.output
    about = json.loads(result.stdout)
    assert [each["samples"] for each in about["damaged"]] == [[], ["s1"]]
    done = {each["name"]: each["extracted"] for each in about["extracted"]}
    assert done == {"few": 1, "all": 0}
    assert mer("repair", "--dry-run").exit_code == 0
    assert shown() == before


def shown() -> list[object]:
    """Return all values of the experiment."""
    few, all = Store("mer.zarr")["few"], Store("mer.zarr")["all"]
    ids = sorted(few.ids)
    return [few.matrix(ids).tolist(), all.matrix(ids).tolist(), few.sequences(ids)[3].tolist()]


def test_repair_says_what_it_cannot_make_anew(folder: Path) -> None:
    flip("features/all@*/base/0*/data/c.0.0")
    registry = folder / "registry.yaml"
    registry.write_text(
        REGISTRY.replace("letters: 5}", "letters: 6}").replace("  all:", "  every:")
    )
    result = mer("repair", "all")
    assert result.exit_code == 3
    assert re.search("features/all@.*: not of this registry", result.output)
    assert "did you mean 'few'?" in mer("repair", "fwe").stderr


def test_a_store_whose_own_document_is_damaged_is_mended(folder: Path) -> None:
    Path("mer.zarr/zarr.json").write_bytes(b"not this")
    result = mer("status")
    assert "zarr.json: not JSON" in result.stderr
    assert "run `mer repair`" in result.stderr
    assert "zarr.json: not JSON" in mer("repair").output
    assert mer("status").exit_code == 0
