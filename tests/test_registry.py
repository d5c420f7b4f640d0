from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mercore.errors import RegistryError
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry, schema
from mercore.resolve import resolve as resolved

GOOD = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  raw: {uses: letters, inputs: {text: text}}
  cooked: {uses: letters, inputs: {text: loud}, with: {letters: 5}, frames: true}
  sound: {uses: loudness}
fusion: centroid
branches:
  both: raw + cooked
  sharp: {features: [sound], with: {sharpness: 2}}
ensemble: majority
"""

Write = Callable[[str, str], Path]


def resolve(path: Path) -> Pipeline:
    return resolved(Registry.read(path), Plugins())


def mistakes(write: Write, text: str) -> str:
    with pytest.raises(RegistryError) as caught:
        resolve(write("registry.yaml", text))
    return str(caught.value)


def test_a_registry_becomes_a_pipeline(write: Write) -> None:
    pipeline = resolve(write("registry.yaml", GOOD))
    assert list(pipeline.streams) == ["loud"]
    assert pipeline.features["sound"].inputs == {"audio": "audio"}
    assert pipeline.features["cooked"].roots == ("text",)
    assert pipeline.features["cooked"].frames
    assert pipeline.branches["both"].features == ("raw", "cooked")
    assert pipeline.branches["sharp"].fusion.model_dump() == {"sharpness": 2.0}
    assert pipeline.ensemble.name == "majority"


def test_all_mistakes_of_shape_come_at_once_with_line_and_key(write: Write) -> None:
    text = GOOD.replace("uses: loudness", "use: loudness") + "fold: 3\n"
    found = mistakes(write, text)
    assert "registry.yaml has 3 mistakes:" in found
    assert "registry.yaml:7: features.sound.use: unknown key; did you mean 'uses'?" in found
    assert "registry.yaml:7: features.sound.uses: Field required" in found
    assert "registry.yaml:13: fold: unknown key; did you mean 'folds'?" in found


def test_all_wrong_names_come_at_once(write: Write) -> None:
    text = GOOD.replace("text: loud}", "text: laud}").replace("raw + cooked", "raw + coked")
    found = mistakes(write, text)
    assert "features.cooked.inputs.text: no stream is called 'laud'; did you mean 'loud'?" in found
    assert "branches.both: no feature is called 'coked'; did you mean 'cooked'?" in found


def test_all_wrong_components_come_at_once(write: Write) -> None:
    text = (
        GOOD.replace("uses: loudness", "uses: loudnes")
        .replace("letters: 5", "leters: 5")
        .replace("uses: letters, inputs: {text: text}", "uses: letters, inputs: {txt: text}")
        .replace("ensemble: majority", "ensemble: majorty")
    )
    found = mistakes(write, text)
    assert "registry.yaml has 4 mistakes:" in found
    assert ":5: features.raw.inputs.txt: 'letters' has no such input; did you mean 'text'?" in found
    assert ":6: features.cooked: letters: with.leters: unknown option; did you mean" in found
    assert ":7: features.sound: no encoder is called 'loudnes'; did you mean 'loudness'?" in found
    assert ":12: ensemble: no ensemble is called 'majorty'; did you mean 'majority'?" in found


def test_a_key_written_twice_is_refused(write: Write) -> None:
    found = mistakes(write, GOOD + "folds: 3\nfolds: 4\n")
    assert "registry.yaml:14: folds: written twice, first on line 13" in found


def test_a_key_written_twice_on_one_line_is_refused(write: Write) -> None:
    found = mistakes(write, GOOD.replace("{uses: shout,", "{uses: shout, uses: shout,"))
    assert "streams.loud.uses: written twice, first on line 3" in found


def test_a_stream_of_another_medium_is_refused(write: Write) -> None:
    found = mistakes(
        write, GOOD.replace("{uses: loudness}", "{uses: loudness, inputs: {audio: loud}}")
    )
    assert "features.sound.inputs.audio: stream 'loud' is words, expected audio" in found


def test_an_input_that_is_wired_to_nothing_is_refused(write: Write) -> None:
    found = mistakes(write, GOOD.replace("{uses: shout, inputs: {text: text}}", "{uses: stills}"))
    assert "found" not in found  # the stream `video` is implied, so only the medium is wrong
    assert "features.cooked.inputs.text: stream 'loud' is video, expected words" in found


def test_streams_in_a_circle_are_refused(write: Write) -> None:
    text = GOOD.replace(
        "  loud: {uses: shout, inputs: {text: text}}",
        "  loud: {uses: shout, inputs: {text: soft}}\n  soft: {uses: shout, inputs: {text: loud}}",
    )
    assert "reads itself in a circle: " in mistakes(write, text)


def test_a_stream_may_not_take_the_name_of_a_column(write: Write) -> None:
    assert "streams.audio: is a column of the manifest" in mistakes(
        write, GOOD.replace("  loud:", "  audio: {uses: halve}\n  loud:")
    )
    assert "features.id: is a column of the manifest" in mistakes(
        write, GOOD.replace("  raw:", "  id: {uses: loudness}\n  raw:")
    )


def test_the_id_of_a_sample_is_a_stream_of_words_that_is_wired_by_its_name(write: Write) -> None:
    text = GOOD.replace("  loud:", "  signed: {uses: sign}\n  loud:")
    pipeline = resolve(write("registry.yaml", text))
    assert pipeline.streams["signed"].inputs == {"text": "text", "id": "id"}
    assert pipeline.streams["signed"].roots == ("id", "text")
    wrong = GOOD.replace("{uses: loudness}", "{uses: loudness, inputs: {audio: id}}")
    assert "stream 'id' is words, expected audio" in mistakes(write, wrong)


def test_names_are_checked(write: Write) -> None:
    found = mistakes(write, GOOD.replace("  raw:", "  Raw-1:"))
    assert "features.Raw-1: names are lower-case letters" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [a, b", r"registry.yaml:2:1: not YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("classes: &c [a, b]\nfeatures: *c\n", "registry.yaml:2: YAML aliases"),
        ("", "expected a mapping"),
    ],
)
def test_what_is_no_registry_is_said_to_be_so(write: Write, text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        Registry.read(write("registry.yaml", text + ("\n" if text else "")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: " + "[" * 100_000, "registry.yaml:1: nested more than 32 deep"),
        ("classes: " + "{a: " * 100_000, "registry.yaml:1: nested more than 32 deep"),
        ("- " * 500 + "a", "registry.yaml:1: nested more than 32 deep"),
        (GOOD + "#" * 2**20, "more than 1048576 characters; no registry is so large"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "registry.yaml:2: YAML aliases"),
        ("seed: " + "9" * 5_000, "a value that YAML cannot read: Exceeds the limit"),
        ("seed: 2024-13-41", "a value that YAML cannot read: month must be in 1..12"),
        ("seed: !!bool maybe", "a value that YAML cannot read: 'maybe'"),
        ("seed: !!timestamp soon", "a value that YAML cannot read"),
        ("seed: !!python/object/apply:os.system [ls]", "not YAML: could not determine"),
        ("seed: \x00", "not YAML"),
    ],
    ids=["lists", "mappings", "blocks", "size", "aliases", "digits", "month", "bool", "time",
         "python", "control"],
)  # fmt: skip
def test_a_hostile_registry_is_refused_at_once(write: Write, text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        Registry.read(write("registry.yaml", text))


def test_long_keys_and_values_are_refused_in_few_words(write: Write) -> None:
    long = "x" * 200_000
    found = mistakes(write, GOOD + f"? {long}\n: 1\n")
    assert "registry.yaml:13: " + "x" * 100 + "...: unknown key" in found
    assert len(found) < 1_000
    found = mistakes(write, GOOD.replace("  raw:", f"  {long[:500]}:").replace("raw +", long))
    assert "should have at most 100 characters" in found
    assert len(found) < 1_000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry at"):
        Registry.read(tmp_path / "registry.yaml")


def test_fingerprints_change_with_what_decides_the_numbers_and_with_nothing_else(
    write: Write,
) -> None:
    first = resolve(write("a.yaml", GOOD))
    upstream = resolve(
        write("b.yaml", GOOD.replace("uses: shout,", "with: {mark: '?'}, uses: shout,"))
    )
    renamed = resolve(write("c.yaml", GOOD.replace("loud", "big").replace("bigness", "loudness")))
    frames = resolve(write("d.yaml", GOOD.replace(", frames: true", "")))
    fingerprint = first.features["cooked"].fingerprint
    assert upstream.features["cooked"].fingerprint != fingerprint
    assert upstream.features["raw"].fingerprint == first.features["raw"].fingerprint
    assert renamed.features["cooked"].fingerprint == fingerprint
    assert frames.features["cooked"].fingerprint == fingerprint


def test_the_schema_describes_every_key() -> None:
    described = schema()
    assert set(described["properties"]) >= {"classes", "streams", "features", "branches"}
    assert {"type": "string"} in described["properties"]["fusion"]["anyOf"]


def test_a_name_means_one_thing(write: Write) -> None:
    found = mistakes(write, GOOD.replace("  raw:", "  loud:").replace("raw +", "loud +"))
    assert "features.loud: is a stream too" in found
    found = mistakes(write, GOOD.replace("  sound:", "  audio:").replace("[sound]", "[audio]"))
    assert "features.audio: is a column of the manifest" in found


def test_keys_without_a_value_are_left_out(write: Write) -> None:
    text = GOOD.replace("{uses: loudness}", "{uses: loudness, with: }") + "mining:\n"
    assert resolve(write("registry.yaml", text)).features["sound"].inputs == {"audio": "audio"}


def test_words_that_yaml_reads_otherwise_are_explained(write: Write) -> None:
    assert "classes.0: not a text; put it in quotes" in mistakes(
        write, GOOD.replace("[sad, happy]", "[yes, happy]")
    )


def test_mining_that_cannot_be_is_refused(write: Write) -> None:
    found = mistakes(write, GOOD + "mining: {agree: 3, split: train}\n")
    assert "mining.agree: 3 of 2 branches cannot agree" in found
    assert "mining.split: the train split has labels already" in found


def test_mistakes_in_a_component_that_is_an_option_are_reported(write: Write) -> None:
    wrong = "{uses: both, inputs: {text: text}, with: {first: {uses: shout, wth: {}}}}"
    found = mistakes(write, GOOD.replace("{uses: loudness}", wrong))
    assert "both: with.first: unknown key 'wth'; did you mean 'with'?" in found


def test_upstream_is_all_that_a_feature_is_made_from_the_nearest_first(write: Write) -> None:
    streams = """
  signed: {uses: sign, inputs: {text: loud}}
  twice: {uses: sign, inputs: {text: signed}}
features:
"""
    text = GOOD.replace("\nfeatures:\n", streams).replace("text: loud}, with", "text: twice}, with")
    pipeline = resolve(write("registry.yaml", text))
    assert pipeline.upstream("raw") == ["text"]
    assert pipeline.upstream("cooked") == ["twice", "signed", "id", "loud", "text"]
