"""A reader made from docs/store.md alone: what it reads is what mercore reads.

mercore makes the stores here; the reader uses nothing of it, so that the page must say all.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_clips import write_mp4, write_wav

from mercore.extract import extract
from mercore.machine import Machine
from mercore.manifest import Manifest
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.store import Collection, Row, Store
from mercore.store._base import Grid
from mercore.store._compact import clean, publish_base
from mercore.store._disk import LocalFiles
from mercore.store._view import load_view

Array = NDArray[Any]
PAGE = (Path(__file__).parent.parent / "docs/store.md").read_text(encoding="utf-8")
PLACES = {
    "<group>": "(features|frames|streams)",
    "<name>": "[a-z][a-z0-9_]*",
    "<fingerprint>": "[0-9a-f]{12}",
    "<key>": r"\d{14}-[0-9a-f]{8}-\d{8}",
    "<base>": r"\d{6,}-[0-9a-f]{8}",
    "<n>": r"[1-9]\d*",
    "<chunk>": r"c\.\d+(\.0)*",
}
HASH = "0123456789ab"


@dataclass(frozen=True)
class Sample:
    commit: str
    values: Array
    source: str
    record: dict[str, Any]
    failed: str | None


def read(collection: Path) -> dict[str, Sample]:
    """Return all samples of a collection that nobody writes to, in their order."""
    newest = max((int(path.stem) for path in collection.glob("gen/[0-9]*.json")), default=0)
    found = []
    consumed = set()
    if newest:
        pointer = json.loads(checked((collection / f"gen/{newest}.json").read_bytes()))
        consumed = set(pointer["consumed"])
        found += list(base(collection / "base" / pointer["base"]))
    for folder in sorted((collection / "seg").iterdir()):
        ours = folder.name not in consumed and folder.name != "zarr.json"
        if ours and (folder / "zarr.json").exists():
            found += list(segment(folder))
    samples: dict[str, Sample] = {}
    for id, sample in found:
        if id not in samples or sample.commit > samples[id].commit:
            samples[id] = sample
    return samples


def segment(folder: Path) -> Iterator[tuple[str, Sample]]:
    noted = attributes(folder)
    ends = np.cumsum([0, *noted["lengths"]])
    rows = read_rows(folder, noted, int(ends[-1]), max(1, int(ends[-1])))
    yield from samples_of(noted["ids"], [folder.name] * len(noted["ids"]), ends, rows, noted)


def base(folder: Path) -> Iterator[tuple[str, Sample]]:
    noted = attributes(folder)
    ends = np.frombuffer((folder / "offsets/c.0").read_bytes(), "<i8")
    commits = [noted["keys"][number] for number in noted["commits"]]
    rows = read_rows(folder / "data", noted, int(ends[-1]), noted["rows_per_file"])
    yield from samples_of(strings((folder / "ids/c.0").read_bytes()), commits, ends, rows, noted)


def samples_of(
    ids: list[str], commits: list[str], ends: Array, rows: Array, noted: dict[str, Any]
) -> Iterator[tuple[str, Sample]]:
    for i, id in enumerate(ids):
        values = rows[ends[i] : ends[i + 1]]
        assert crc32c(values.tobytes()) == noted["samples_crc32c"][i]
        record, failed = noted["records"].get(id, {}), noted["failed"].get(id)
        yield id, Sample(commits[i], values, noted["sources"][i], record, failed)


def read_rows(folder: Path, noted: dict[str, Any], total: int, per_file: int) -> Array:
    if noted["dtype"] is None:
        return np.empty(0)
    dtype = np.dtype(noted["dtype"]).newbyteorder("<")
    row_bytes = dtype.itemsize * int(np.prod(noted["shape"], dtype=int))
    pieces = []
    for index, start in enumerate(range(0, total if row_bytes else 0, per_file)):
        name = ".".join(["c", str(index), *["0"] * len(noted["shape"])])
        size = min(per_file, total - start) * row_bytes
        data = (folder / name).read_bytes()[:size]
        assert crc32c(data) == noted["crc32c"][index]
        if "files_crc32c" in noted:
            assert crc32c((folder / name).read_bytes()) == noted["files_crc32c"][index]
        pieces.append(data)
    return np.frombuffer(b"".join(pieces), dtype).reshape(total, *noted["shape"])


def strings(data: bytes) -> list[str]:
    (count,) = struct.unpack_from("<I", data)
    found, at = [], 4
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def attributes(folder: Path) -> Any:
    noted = json.loads(checked((folder / "zarr.json").read_bytes()))["attributes"]["mercore"]
    del noted["document_crc32c"]
    return noted


def checked(document: bytes) -> bytes:
    """Return a document whose checksum is right."""
    match = re.search(rb'"document_crc32c":"([0-9a-f]{8})"', document)
    assert match
    assert int(match[1], 16) == crc32c(document.replace(match[1], b"0" * 8, 1))
    return document


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def named_in(heading: str, start: str = "|") -> set[str]:
    """Return what is in backticks at the start of the rows of a table of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith(start)]
    return {name for line in lines for name in re.findall("`(.+?)`", line.split("|")[1])}


def noted_in(document: str) -> set[str]:
    """Return the keys that the page lists for a document."""
    (line,) = re.findall(rf"^\| {document} \| (`ids`.*|`sources`.*) \|$", PAGE, re.MULTILINE)
    return set(re.findall("`(.+?)`", line))


def kept(store: Store, kind: str, shape: tuple[int, ...]) -> Collection:
    """Return a collection of which a part is compacted, into several files."""
    generator = np.random.default_rng(0)

    def some(rows: int) -> Array:
        return (generator.random((rows, *shape)) * 200).astype(kind)

    collection = store.create("frames", "toy", HASH, {"dim": 3})
    first = [Row(f"样本/{number}", some(number % 5), f"source {number}") for number in range(9)]
    collection.commit([*first, Row("bad", None, "gone", failed="no audio")])
    collection.commit([Row("样本/3", some(2), record={"score": 0.5})])
    files = LocalFiles(Path(store.path) / collection.identity.folder)
    assert publish_base(files, load_view(files, {}), Grid(3, 2))
    clean(files, load_view(files, {}).pointer)
    collection.commit([Row("late", some(4)), Row("bad", some(1)), Row("样本/1", some(7))])
    collection.commit([Row("样本/4", None, failed="gone"), Row("empty", some(0))])
    collection.commit([Row("worse", None, failed="no face")])
    return collection


def assert_same(samples: dict[str, Sample], collection: Collection) -> None:
    entries = collection.entries()
    assert list(samples) == list(entries)
    for id, sample in samples.items():
        entry = entries[id]
        assert (sample.source, sample.record) == (entry.source, dict(entry.record))
        assert (len(sample.values), sample.failed) == (entry.length, entry.failed)
        if sample.failed is None:
            np.testing.assert_array_equal(sample.values, collection.sequence(id))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mer.zarr")


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("float32", (5,)), ("float16", (3,)), ("int16", ()), ("uint8", (4, 2, 3)), ("float32", (0,))],
)
def test_the_reader_of_the_page_reads_what_mercore_reads(
    store: Store, kind: str, shape: tuple[int, ...]
) -> None:
    collection = kept(store, kind, shape)
    samples = read(Path(store.path) / collection.identity.folder)
    assert len(samples) == 13
    assert (samples["bad"].failed, samples["样本/4"].failed) == (None, "gone")
    assert samples["样本/3"].record == {"score": 0.5}
    assert_same(samples, collection)
    collection.compact()
    assert_same(read(Path(store.path) / collection.identity.folder), collection)


def test_what_a_crash_leaves_is_not_there_for_either(store: Store) -> None:
    folder = Path(store.path) / kept(store, "float32", (2,)).identity.folder
    expected = list(read(folder))
    torn = folder / "seg/99999999999999-00000000-00000001"
    torn.mkdir()
    (torn / "c.0.0").write_bytes(b"1234")
    (torn / ".zarr.json.0a1b2c3d").write_bytes(b"{")
    (folder / "gen/.2.json.0a1b2c3d").write_bytes(b"{")
    (folder / "base/000002-00000000/data").mkdir(parents=True)
    assert list(read(folder)) == expected
    again = store.collection("frames", "toy", HASH)
    assert again
    assert_same(read(folder), again)


def test_a_late_segment_of_an_older_key_does_not_count_for_either(store: Store) -> None:
    collection = kept(store, "float32", (2,))
    folder = Path(store.path) / collection.identity.folder
    before = read(folder)["样本/3"].values
    collection.commit([Row("样本/3", before + 1), Row("new", before)])
    newest = max((folder / "seg").glob("[0-9]*"))
    newest.rename(newest.with_name("00000000000001-00000000-00000001"))
    samples = read(folder)
    np.testing.assert_array_equal(samples["样本/3"].values, before)
    assert "new" in samples
    again = store.collection("frames", "toy", HASH)
    assert again
    assert_same(samples, again)


def test_each_shard_ends_with_the_index_of_the_page(store: Store) -> None:
    collection = kept(store, "float16", (3,))
    (data,) = (Path(store.path) / collection.identity.folder).glob("base/*/data")
    document = json.loads((data / "zarr.json").read_bytes())
    (rows, _), shard = (
        document["codecs"][0]["configuration"]["chunk_shape"],
        document["chunk_grid"]["configuration"]["chunk_shape"][0],
    )
    assert attributes(data.parent)["rows_per_file"] == shard == 6
    left = document["shape"][0]
    for index in range(-(-left // shard)):
        content = (data / f"c.{index}.0").read_bytes()
        present, entries = -(-min(shard, left) // rows), shard // rows
        where = [(i * rows * 6, rows * 6) for i in range(present)]
        where += [(2**64 - 1, 2**64 - 1)] * (entries - present)
        packed = b"".join(struct.pack("<QQ", *entry) for entry in where)
        assert content[present * rows * 6 :] == packed + struct.pack("<I", crc32c(packed))
        left -= shard
    assert present < entries  # the last file is not full


def test_the_page_names_every_file_and_every_key(store: Store) -> None:
    collection = kept(store, "float32", (2,))
    for number in range(512):
        collection.commit([Row(str(number), np.ones((1, 2), np.float32))])
    collection.note({"samples": 3})
    collection.mark()
    (layout,) = re.findall(r"```layout\n(.*?)```", PAGE, re.DOTALL)
    patterns = {line: re.escape(line) for line in layout.splitlines()}
    for place, pattern in PLACES.items():
        patterns = {line: text.replace(place, pattern) for line, text in patterns.items()}
    with collection.busy():
        files = [path for path in Path(store.path).rglob("*") if path.is_file()]
    names = [path.relative_to(store.path).as_posix() for path in files]
    assert [
        name for name in names if not any(re.fullmatch(p, name) for p in patterns.values())
    ] == []
    assert [p for p in patterns if not any(re.fullmatch(patterns[p], name) for name in names)] == []

    folder = Path(store.path) / collection.identity.folder
    indexed = {
        path.name: json.loads(path.read_bytes())["segments"] for path in folder.glob("idx/*.json")
    }
    assert sorted(map(len, indexed.values())) == [64] * 8 + [512]
    for name, segments in indexed.items():
        assert name.endswith(".512.json") == (len(segments) == 512)
        assert max(segments) < name
        for key, noted in segments.items():
            if (folder / "seg" / key).exists():  # two of them were compacted
                assert noted == attributes(folder / "seg" / key)
                assert set(noted) == noted_in("segment")
    (whole,) = folder.glob("base/[0-9]*")
    assert set(attributes(whole)) == noted_in("base")
    assert attributes(Path(store.path)) == {"kind": "store", "format": 1}
    assert set(attributes(folder)) == {"kind", "created", "header"}
    collection.compact()
    assert not list(folder.glob("idx/*"))


def test_streams_headers_and_fingerprints_are_those_of_the_page(
    store: Store, tmp_path: Path
) -> None:
    write_mp4(tmp_path / "a.mp4", [(200, 20, 20)] * 4)
    sound = write_wav(tmp_path / "a.wav", 0.4)
    (tmp_path / "manifest.csv").write_text(
        "id,split,video,audio,text\na,test,a.mp4,a.wav,so it is\n"
    )
    (tmp_path / "registry.yaml").write_text(
        "classes: [sad, happy]\n"
        "streams:\n"
        "  soft: {uses: halve, inputs: {audio: audio}}\n"
        "  loud: {uses: shout, inputs: {text: text}}\n"
        "  faces: {uses: stills, inputs: {video: video}}\n"
        "features:\n"
        "  words: {uses: letters, inputs: {text: loud}, frames: true}\n"
        "  sound: {uses: loudness, inputs: {audio: soft}}\n"
        "  shade: {uses: brightness, inputs: {video: faces}}\n"
    )
    pipeline = resolve(Registry.read(tmp_path / "registry.yaml"), Plugins())
    manifest = Manifest.read(tmp_path / "manifest.csv", ("sad", "happy"))
    extract(pipeline, manifest, store, Machine(device="cpu"))
    folders = {
        f"{path.parent.name}/{path.name.partition('@')[0]}": path
        for path in Path(store.path).glob("*/*@*")
    }
    headers = {name: attributes(path)["header"] for name, path in folders.items()}
    found = {name: read(path)["a"] for name, path in folders.items()}

    keys = {key for header in headers.values() for key in header}
    assert keys == named_in("Header", "| `")
    loud, soft = headers["streams/loud"], headers["streams/soft"]
    assert (loud["medium"], soft["spec"]) == ("words", "Audio(rate=16000)")
    text = {"stream": loud["fingerprint"], "spec": "Words()"}
    component = headers["features/words"]["component"]
    decided = {"media": 1, "component": component, "inputs": {"text": text}, "dtype": "float32"}
    canonical = json.dumps(decided, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    assert headers["features/words"]["inputs"] == {"text": loud["fingerprint"]}
    assert folders["features/words"].name == folders["frames/words"].name == f"words@{expected}"

    assert found["streams/loud"].values.tobytes().decode() == "SO IT IS!"
    words = hashlib.blake2b(b"so it is", digest_size=16).hexdigest()
    assert found["streams/loud"].source == f"words:{words}"
    audio = found["streams/soft"]
    assert audio.values.dtype == np.dtype("int16")
    with wave.open(str(sound)) as file:
        written = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    np.testing.assert_allclose(audio.values / 32767, written / 2, atol=0.6 / 32767)
    status = sound.stat()
    digest = hashlib.blake2b(sound.read_bytes()).hexdigest()[:32]
    assert audio.source == f"{status.st_size}:{status.st_mtime_ns}:{digest}"
    faces = found["streams/faces"]
    assert (faces.values.shape, faces.values.dtype.name) == ((4, 48, 64, 3), "uint8")
    assert faces.record["times"] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert found["frames/words"].values.dtype.name == "float16"
    vector = found["features/words"].values
    assert (vector.shape, vector.dtype.name) == ((1, 26), "float32")
