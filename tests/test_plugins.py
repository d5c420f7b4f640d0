from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from plugin_files import install

import mercore_toys
from mercore.components import Encoder, Ensemble, Preprocessor
from mercore.errors import PluginError, RegistryError
from mercore.fingerprints import describe, fingerprint
from mercore.plugins import Plugins

TOYS = EntryPoint("mercore_toys", "mercore_toys", "mercore")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_installed_plugins_are_found_with_kind_distribution_and_version() -> None:
    found = {(p.kind, p.component.name): (p.distribution, p.version) for p in Plugins()}
    assert found["encoder", "letters"] == ("mercore-toys", "0.1.0")
    assert found["ensemble", "rank_mode"][0] == "mercore"


def test_a_component_is_built_from_its_options() -> None:
    built = Plugins([TOYS]).build(Encoder, "letters", {"letters": 3})
    assert built == mercore_toys.Letters(letters=3)


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(PluginError, match="no encoder is called 'leters'; did you mean 'letters'"):
        Plugins([TOYS]).build(Encoder, "leters", {})


def test_a_name_of_another_kind_is_said_to_be_so() -> None:
    with pytest.raises(PluginError, match="no encoder is called 'shout'; 'shout' is a preproc"):
        Plugins([TOYS]).build(Encoder, "shout", {})


def test_all_wrong_options_are_reported_at_once() -> None:
    with pytest.raises(RegistryError) as caught:
        Plugins([TOYS]).build(Encoder, "letters", {"leters": 1, "letters": "x"})
    assert "with.leters: unknown option; did you mean 'letters'?" in str(caught.value)
    assert "with.letters: Input should be a valid integer" in str(caught.value)


NESTED = """\
from typing import ClassVar, Literal
from pydantic import BaseModel, ConfigDict, Field
from mercore import Preprocessor, Words, hookimpl

class Band(BaseModel):
    model_config = ConfigDict(extra="forbid")
    low: float = 0.0
    high: float = 1.0

class Bands(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: float = 1.0
    more: tuple[Band, ...] = ()

class Filter(Preprocessor):
    name = "filter"
    inputs: ClassVar = {"text": Words()}
    output = Words()
    bands: Bands | None = None
    factors: tuple[Literal[1, 2], ...] = Field(default=(1,), min_length=1)

    def load(self, device, dtype):
        raise NotImplementedError

@hookimpl
def preprocessors():
    return [Filter]
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bands": {"widht": 2}}, "with.bands.widht: unknown option; did you mean 'width'?"),
        (
            {"bands": {"more": [{}, {"hihg": 2}]}},
            "with.bands.more.1.hihg: unknown option; did you mean 'high'?",
        ),
        ({"bands": {"x": 2}}, "with.bands.x: unknown option; expected one of width, more"),
        ({"factors": [3]}, "with.factors.0: Input should be 1 or 2"),
        ({"factors": []}, "with.factors: Tuple should have at least 1 item"),
    ],
)
def test_a_mistake_in_a_nested_option_is_one_mistake_and_says_what_there_is(
    folder: Path, options: dict[str, Any], said: str
) -> None:
    plugins = Plugins([install(folder, "acme-filter", NESTED)])
    with pytest.raises(RegistryError) as caught:
        plugins.build(Preprocessor, "filter", options)
    assert str(caught.value).startswith(f"filter: {said}")
    assert "\n" not in str(caught.value)


def test_a_plugin_that_fails_to_import_is_set_aside_and_named_when_it_is_missed(
    folder: Path,
) -> None:
    broken = install(folder, "acme-broken", "import no_such_module_anywhere\n")
    plugins = Plugins([broken, TOYS])
    assert plugins.build(Encoder, "letters", {})
    with pytest.raises(PluginError) as caught:
        plugins.build(Encoder, "acme", {})
    assert "plugin 'acme_broken' of acme-broken was set aside: ModuleNotFoundError" in str(
        caught.value
    )


def test_two_plugins_with_one_name_are_an_error_naming_both(folder: Path) -> None:
    code = Path(mercore_toys.__file__).read_text()
    plugins = Plugins([install(folder, "acme-one", code), install(folder, "acme-two", code)])
    message = "acme-one 1.2 and acme-two 1.2 both provide an encoder called 'letters'"
    with pytest.raises(PluginError, match=re.escape(message)):
        plugins.build(Encoder, "letters", {})
    assert any(message in conflict for conflict in plugins.conflicts())


def test_a_misspelt_hook_sets_the_plugin_aside(folder: Path) -> None:
    code = "from mercore import hookimpl\n@hookimpl\ndef encoder():\n    return []\n"
    (broken,) = Plugins([install(folder, "acme-typo", code)]).broken
    assert "unknown hook 'encoder'" in broken.reason


def test_a_hook_that_returns_no_class_sets_the_plugin_aside(folder: Path) -> None:
    code = "from mercore import hookimpl\n@hookimpl\ndef encoders():\n    return ['hubert']\n"
    (broken,) = Plugins([install(folder, "acme-wrong", code)]).broken
    assert "hook encoders returned 'hubert', expected Encoder classes" in broken.reason


def test_a_component_may_be_an_option_of_another() -> None:
    plugins = Plugins([TOYS])
    options = {"first": {"uses": "shout", "with": {"mark": "?"}}, "then": {"uses": "letters"}}
    both = plugins.build(Encoder, "both", options)  # type: ignore[arg-type]
    assert both == mercore_toys.Both(
        first=mercore_toys.Shout(mark="?"), then=mercore_toys.Letters()
    )
    with pytest.raises(PluginError, match="no preprocessor is called 'shot'"):
        plugins.build(Encoder, "both", {"first": {"uses": "shot"}})


def test_the_options_of_a_nested_component_are_part_of_the_fingerprint() -> None:
    one, other = (
        fingerprint(describe(mercore_toys.Both(first=mercore_toys.Shout(mark=mark))))
        for mark in "!?"
    )
    assert one != other


def test_options_round_trip_and_are_hashable() -> None:
    built = Plugins([TOYS]).build(Preprocessor, "shout", {"mark": "?"})
    assert type(built).model_validate(built.model_dump()) == built
    assert hash(built) == hash(mercore_toys.Shout(mark="?"))


def test_the_built_in_ensembles_are_a_plugin_like_any_other() -> None:
    names = {p.component.name for p in Plugins() if issubclass(p.component, Ensemble)}
    assert names >= {"rank_mode", "mean_probability", "majority"}
