"""No registry.yaml and no manifest, whatever is in it, ends in a traceback."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import FUZZ, ODD, as_json, damaged, told, twisted
from run_mer import mer

from mercore.errors import ManifestError, MercoreError, RegistryError
from mercore.manifest import Manifest
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve

ROOT = Path(__file__).parent.parent
VALID = [
    path.read_bytes() for path in (ROOT / "registry.yaml", ROOT / "examples/mer2024/registry.yaml")
]
VALID.append(b"""\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 3}, frames: true}
  all: {uses: letters, inputs: {text: loud}}
fusion: centroid
branches: {one: few, both: few + all, fit: {features: [few], uses: linear}}
ensemble: {uses: stacking}
mining: {rounds: 2, agree: 2}
folds: 2
""")
SEEDS = st.integers(0, 2**32)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(),
    st.sampled_from(["letters", "text", "few", "uses", "with", "a + b", "~nobody/x", "x" * 5000]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check(folder: Path, plugins: Plugins, content: bytes) -> None:
    """Read and resolve a registry: it is right, or a MercoreError says why not, in Unicode."""
    path = folder / "registry.yaml"
    path.write_bytes(content)
    with told(MercoreError, path.name):
        resolve(Registry.read(path), plugins)


@FUZZ
@given(seed=SEEDS, text=st.sampled_from(VALID))
def test_a_damaged_registry(folder: Path, plugins: Plugins, seed: int, text: bytes) -> None:
    check(folder, plugins, damaged(text, random.Random(seed)))


@FUZZ
@given(seed=SEEDS, text=st.sampled_from(VALID))
def test_a_twisted_registry(folder: Path, plugins: Plugins, seed: int, text: bytes) -> None:
    data = twisted(yaml.safe_load(text), random.Random(seed))
    check(folder, plugins, as_yaml(data))


@FUZZ
@given(content=st.dictionaries(st.sampled_from(["classes", "features", "branches", "x"]), TREES))
def test_any_yaml(folder: Path, plugins: Plugins, content: Any) -> None:
    check(folder, plugins, as_yaml(content))


@FUZZ
@given(
    content=st.binary(max_size=300) | st.text("&*!<>[]{}:,-?|'\"\\\n ae1~%@`#.=").map(str.encode)
)
def test_anything_for_a_registry(folder: Path, plugins: Plugins, content: bytes) -> None:
    check(folder, plugins, content)


def as_yaml(data: Any) -> bytes:
    try:
        return yaml.safe_dump(data, allow_unicode=True).encode()
    except (UnicodeEncodeError, ValueError):  # half a character, too many digits
        return as_json_or_nothing(data)


def as_json_or_nothing(data: Any) -> bytes:
    try:
        return as_json(data)  # JSON is YAML
    except (ValueError, TypeError):
        return b"{}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: " + "[" * 3000, "registry.yaml:1: nested more than"),
        ("a: 2024-13-01", "registry.yaml: a value that YAML cannot read: month must be in 1..12"),
        ("a: " + "1" * 5000, "a value that YAML cannot read: Exceeds the limit"),
        ("a: 1" + ":59" * 200 + ".5", "a value that YAML cannot read: int too large"),
        ("a: !!bool maybe", "a value that YAML cannot read: 'maybe'"),
        ("a: !!int ''", "a value that YAML cannot read"),
        ("a: !!timestamp x", "a value that YAML cannot read"),
        ("a: !!python/object/apply:os.mkdir [x]", "could not determine a constructor"),
        ('a: "\\uD83D"', "registry.yaml:1: half of a character"),
    ],
)
def test_what_yaml_can_say_and_a_registry_must_not(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "registry.yaml").write_text(content)
    with pytest.raises(RegistryError) as caught:
        Registry.read(tmp_path / "registry.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize("checkpoint", ["x" * 5000, "~nobody-of-this-name/x", "a/" * 3000])
def test_a_checkpoint_that_no_path_can_be(
    tmp_path: Path, plugins: Plugins, checkpoint: str
) -> None:
    text = f"classes: [a, b]\nfeatures: {{h: {{uses: hubert, with: {{checkpoint: {checkpoint}}}}}}}"
    (tmp_path / "registry.yaml").write_text(text)
    with pytest.raises(RegistryError, match=r"features\.h: .*(no checkpoint at|name too long)"):
        resolve(Registry.read(tmp_path / "registry.yaml"), plugins)


CELLS = st.text() | st.sampled_from(
    ["", "train", "unlabelled", "test", "sad", "x" * 200_000, "a\0b", "é.txt", "..", "a" * 300]
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(["id", "split", "label", "text", "video", "audio", "ID", "", "é"])
)


def read_manifest(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with told(ManifestError, name):
        assert Manifest.read(folder / name, ["sad", "happy"]).samples


CSV = '﻿id,split,label,text,note\na,train,sad,"yes, I know",x\nb,unlabelled,,no,y\n'.encode()
JSONL = (
    b'{"id":"a","split":"train","label":"sad","text":"yes"}\n{"id":"b","split":"test","text":"n"}\n'
)
ROWS = [{"id": "a", "split": "train", "label": "sad", "text": "yes", "note": {"a": [1]}}]


@FUZZ
@given(seed=SEEDS, whole=st.sampled_from([("m.csv", CSV), ("m.jsonl", JSONL)]))
def test_a_damaged_manifest(folder: Path, seed: int, whole: tuple[str, bytes]) -> None:
    read_manifest(folder, whole[0], damaged(whole[1], random.Random(seed)))


@FUZZ
@given(header=HEADERS, rows=st.lists(st.lists(CELLS, max_size=6), max_size=5), quoted=st.booleans())
def test_a_manifest_of_any_cells(
    folder: Path, header: list[str], rows: list[list[str]], quoted: bool
) -> None:
    mark = '"' if quoted else ""
    lines = [",".join(f"{mark}{cell}{mark}" for cell in row) for row in [header, *rows]]
    read_manifest(folder, "m.csv", "\n".join(lines).encode(errors="surrogatepass"))


@FUZZ
@given(content=st.binary(), encoding=st.sampled_from(["utf-16", "latin-1", "utf-8-sig"]))
def test_a_manifest_of_any_bytes(folder: Path, content: bytes, encoding: str) -> None:
    for name in ("m.csv", "m.jsonl"):
        read_manifest(folder, name, content)
        read_manifest(folder, name, CSV.decode().encode(encoding, errors="replace") + content)


@FUZZ
@given(seed=SEEDS)
def test_a_twisted_manifest(folder: Path, seed: int) -> None:
    row = twisted(ROWS, random.Random(seed))
    lines = [as_json_or_nothing(each) for each in (row if isinstance(row, list) else [row])]
    read_manifest(folder, "m.jsonl", b"\n".join(lines))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[" * 100_000, "m.jsonl:1: not JSON: maximum recursion depth"),
        ('{"id": ' + "1" * 5000 + "}", "m.jsonl:1: not JSON: Exceeds the limit"),
        ('{"id": "\\ud83d", "split": "test"}', "surrogates not allowed"),
    ],
)
def test_json_that_is_none_for_us(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "m.jsonl").write_text(line)
    with pytest.raises(ManifestError) as caught:
        Manifest.read(tmp_path / "m.jsonl", ["sad"])
    assert says in str(caught.value)


@pytest.mark.parametrize("odd", [value for value in ODD if value not in ({}, [])])
def test_the_command_line_ends_with_an_error_line(folder: Path, odd: object) -> None:
    content = as_json_or_nothing(
        {"classes": ["a", odd], "features": {"f": {"uses": odd}}, "x": odd}
    )
    (folder / "registry.yaml").write_bytes(content)
    result = mer("check", "--registry", str(folder / "registry.yaml"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
