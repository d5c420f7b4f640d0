"""The JSON Schema with every component, held against what mercore itself says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml
from jsonschema import Draft7Validator
from page_blocks import PAPER, ROOT, SHIPPED, blocks
from pydantic import BaseModel, Field
from run_mer import mer

from mercore.components import Encode, Encoder
from mercore.media import Words
from mercore.option_schema import options_schema
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.schema import plugin_schema, schema_line

Wrong = tuple[str, tuple[str | int, ...], str]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return plugin_schema(Plugins())


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft7Validator:
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def mistakes(validator: Draft7Validator, text: str) -> list[tuple[tuple[str | int, ...], str]]:
    """Return where the schema finds a mistake in YAML, the deepest of each, and what it says."""
    return [
        (tuple(e.absolute_path), e.message) for e in validator.iter_errors(yaml.safe_load(text))
    ]


def on_top(code: str) -> str:
    """Return a block of a page that has some keys alone, read on top of the shipped registry."""
    found, whole = yaml.safe_load(code), yaml.safe_load(SHIPPED)
    if "classes" in found:
        return code
    for key, value in found.items():
        both = isinstance(value, dict) and key in ("streams", "features", "branches")
        whole[key] = whole[key] | value if both else value
    return yaml.safe_dump(whole)


def registries() -> Iterator[Any]:
    """Yield every registry that is shipped or shown."""
    yield pytest.param(SHIPPED, id="registry.yaml")
    yield pytest.param(PAPER, id="mer2024")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if page.parent != ROOT and re.search(r"hookimpl|mer new", page.read_text(encoding="utf-8")):
            continue  # its registries use a plugin that the page writes
        for block in blocks(page):
            if block.language == "yaml":
                name = f"{page.relative_to(ROOT)}:{block.line}"
                yield pytest.param(on_top(block.code), id=name)


@pytest.mark.parametrize("text", list(registries()))
def test_every_registry_that_is_shipped_or_shown_passes(
    validator: Draft7Validator, text: str
) -> None:
    assert mistakes(validator, text) == []


RIGHT = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
  clean: {uses: deepfilternet, with: {asr: {uses: whisper_asr, with: {beam: 1}}}}
features:
  raw: {uses: letters, inputs: {text: text}, with: }
  cooked: {uses: letters, inputs: {text: loud}, with: {letters: 5}, frames: true}
  there: {uses: imported, with: {source: a, digest: 0123456789abcdef, width: 3}}
fusion: {uses: centroid, with: {sharpness: 2}}
branches:
  both: raw + cooked
  listed: [raw, cooked]
  sharp: {features: [raw], with: {sharpness: 2}}
  other: {features: raw, uses: linear, with: {c: 0.1}}
ensemble: majority
mining:
folds: 3
"""

WRONG: list[Wrong] = [
    ("uses: shout", ("streams", "loud", "uses"), "'shuot' is not one of"),
    ("beam: 1", ("streams", "clean", "with", "asr", "with"), "'baem' was unexpected"),
    ("letters: 5", ("features", "cooked", "with", "letters"), "'five' is not of type 'integer'"),
    ("frames: true", ("features", "cooked"), "'frame' was unexpected"),
    ("inputs: {text: loud}", ("features", "cooked", "inputs"), "'txt' was unexpected"),
    ("with: {source: a, digest: 0123456789abcdef, width: 3}", ("features", "there"), "'with' is a"),
    ("width: 3", ("features", "there", "with", "width"), "0 is less than the minimum of 1"),
    ("both: raw + cooked", ("branches", "both"), "does not match"),
    ("[raw], with: {sharpness: 2}", ("branches", "sharp", "with"), "'sharpnes' was unexpected"),
    ("{c: 0.1}", ("branches", "other", "with"), "'cc' was unexpected"),
    ("uses: centroid", ("fusion", "uses"), "'centriod' is not one of"),
    ("ensemble: majority", ("ensemble",), "'majorty' is not one of"),
    ("folds: 3", ("folds",), "1 is less than the minimum of 2"),
    ("[sad, happy]", ("classes",), "has non-unique elements"),
    ("  loud: {", ("streams",), "'audio' does not match any of the regexes"),
    ("mining:", ("mining", "rounds"), "0 is less than the minimum of 1"),
]
"""What is right in the registry above, where it is reported in the place of it, and how."""

INSTEAD = {
    "uses: shout": "uses: shuot",
    "beam: 1": "baem: 1",
    "letters: 5": "letters: five",
    "frames: true": "frame: true",
    "inputs: {text: loud}": "inputs: {txt: loud}",
    "with: {source: a, digest: 0123456789abcdef, width: 3}": "frames: true",
    "width: 3": "width: 0",
    "both: raw + cooked": "both: raw, cooked",
    "[raw], with: {sharpness: 2}": "[raw], with: {sharpnes: 2}",
    "{c: 0.1}": "{cc: 0.1}",
    "uses: centroid": "uses: centriod",
    "ensemble: majority": "ensemble: majorty",
    "folds: 3": "folds: 1",
    "[sad, happy]": "[sad, sad]",
    "  loud: {": "  audio: {",
    "mining:": "mining: {rounds: 0}",
}


def test_every_form_that_is_right_passes(validator: Draft7Validator, tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(RIGHT)
    assert resolve(Registry.read(tmp_path / "registry.yaml"), Plugins())
    assert mistakes(validator, RIGHT) == []


@pytest.mark.parametrize(("right", "place", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_each_mistake_is_found_where_it_is(
    validator: Draft7Validator, right: str, place: tuple[str | int, ...], message: str
) -> None:
    assert RIGHT.count(right) == 1
    found = mistakes(validator, RIGHT.replace(right, INSTEAD[right]))
    assert any(where == place and message in said for where, said in found), found


def test_names_come_with_a_line_about_each(schema: dict[str, Any]) -> None:
    for definition in ("stream", "feature", "fusion", "ensemble"):
        uses = schema["definitions"][definition]["properties"]["uses"]
        assert len(uses["enum"]) == len(uses["enumDescriptions"]) > 2
        assert all(uses["enumDescriptions"])
    encoders = schema["definitions"]["feature"]["properties"]["uses"]
    about = dict(zip(encoders["enum"], encoders["enumDescriptions"], strict=True))
    assert about["minilm"].startswith("A contextual embedding of each word piece")


def test_options_come_with_type_default_limits_and_text(schema: dict[str, Any]) -> None:
    beam = schema["definitions"]["preprocessor.whisper_asr"]["properties"]["beam"]
    assert beam == {
        "type": "integer",
        "default": 5,
        "minimum": 1,
        "maximum": 10,
        "description": "How many hypotheses to follow; 1 takes the best token at each step.",
    }
    silent = [
        f"{name}.{option}"
        for name, definition in schema["definitions"].items()
        if "." in name and definition["description"]
        for option, about in definition.get("properties", {}).items()
        if "description" not in about and not name.endswith(TOYS)
    ]
    assert silent == []


TOYS = tuple(found.component.name for found in Plugins() if found.distribution == "mercore-toys")


class Band(BaseModel):
    low: float = 0.0
    """The lowest frequency, in Hz."""
    inner: list[Band] = Field(default_factory=list)


class Odd(Encoder):
    """Has options of every shape."""

    name = "odd"
    inputs: ClassVar = {"text": Words()}
    title: str = "x"
    """A name that JSON Schema uses too."""
    pair: tuple[int, str] = (1, "a")
    bands: tuple[Band, ...] = ()
    only: Literal["this"] = "this"

    def load(self, device: str, dtype: str) -> Encode:
        raise NotImplementedError


def test_options_of_every_shape_are_described_without_what_is_defined_elsewhere() -> None:
    made = options_schema(Odd)
    Draft7Validator.check_schema(made)
    assert "$ref" not in json.dumps(made)
    assert made["properties"]["title"] == {
        "type": "string", "default": "x", "description": "A name that JSON Schema uses too."
    }  # fmt: skip
    low = made["properties"]["bands"]["items"]["properties"]["low"]
    assert low["description"] == "The lowest frequency, in Hz."
    options = Draft7Validator(made)
    assert options.is_valid({"pair": [1, "b"], "bands": [{"inner": [{"low": 2}]}], "only": "this"})
    for wrong in ({"pair": ["b", 1]}, {"pair": [1, "b", 2]}, {"only": "that"}, {"titel": "y"}):
        assert not options.is_valid(wrong), wrong


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    content = json.loads(mer("schema", "--plugins").stdout)
    assert "encoder.minilm" in content["definitions"]
    file = tmp_path / "registry.schema.json"
    assert mer("schema", "--plugins", "--out", str(file)).stdout == ""
    assert json.loads(file.read_text()) == content
    failed = mer("schema", "--out", str(file / "below"))
    assert failed.exit_code == 1
    assert "cannot write" in failed.stderr


def test_a_registry_leads_editors_to_the_schema_beside_it(tmp_path: Path) -> None:
    assert schema_line(tmp_path / "registry.yaml") == ""
    (tmp_path / "registry.schema.json").write_text("{}")
    line = schema_line(tmp_path / "registry.yaml")
    assert re.fullmatch(r"# yaml-language-server: \$schema=registry\.schema\.json\n", line)
