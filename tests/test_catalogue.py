from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from plugin_files import install
from pydantic import Field

import mercore_toys
from mercore.catalogue import Installed, find, installed
from mercore.components import Encode, Encoder
from mercore.errors import PluginError
from mercore.media import Audio, Video, Words
from mercore.options import options_of
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins, Provided
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.weights import GIVEN, HERE, MISSING, NONE, PACKAGED, UNKNOWN, state_of, weights_of

PLUGINS = Plugins()
EVERY = [provided for provided in PLUGINS if provided.component.name != "both"]


class Learnt(Encoder):
    """A row for each word.

    More of it.

    Source: nobody, "On words",
    arXiv:0000.00000.
    """

    name: ClassVar[str] = "learnt"
    inputs: ClassVar = {"text": Words(), "mine": Audio(rate=8_000), "faces": Video()}

    checkpoint: str = "acme/learnt"
    """Where the weights lie,
    on two lines."""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1, description="Which layers.")
    share: float | None = Field(default=None, ge=0, lt=1)
    mode: Literal["fast", "good"] = "good"
    must: Annotated[int, Field(ge=1)]

    def load(self, device: str, dtype: str) -> Encode:
        raise NotImplementedError


def one(component: type[Encoder]) -> Installed:
    provided = Provided(component, "encoder", "acme", "mercore-acme", "1.0")
    return Installed(provided, component.model_construct(), "")


def test_options_have_type_limits_default_and_what_is_said_of_them() -> None:
    found = {option.name: option for option in options_of(Learnt)}
    assert list(found) == ["checkpoint", "layers", "share", "mode", "must"]
    assert found["checkpoint"].about == "Where the weights lie, on two lines."
    assert found["checkpoint"].default_in_yaml == "acme/learnt"
    assert found["layers"].about == "Which layers."
    assert (found["layers"].type, found["layers"].default_in_yaml) == (
        "list of whole number",
        "[-1]",
    )
    assert found["share"].type == "number, ≥ 0, < 1 or `null`"
    assert found["share"].limits == {"minimum": 0, "exclusiveMaximum": 1}
    assert found["mode"].type == "`fast` or `good`"
    assert found["mode"].limits == {"enum": ["fast", "good"]}
    assert (found["must"].required, found["must"].default_in_yaml) == (True, "")


def test_what_a_base_class_says_of_an_option_holds_for_its_subclasses() -> None:
    class More(Learnt):
        name: ClassVar[str] = "more"
        mode: Literal["fast", "good"] = "fast"
        """How."""

    found = {option.name: option for option in options_of(More)}
    assert found["checkpoint"].about == "Where the weights lie, on two lines."
    assert (found["mode"].about, found["mode"].default) == ("How.", "fast")


def test_a_docstring_gives_its_first_line_and_its_source() -> None:
    assert one(Learnt).about == "A row for each word."
    assert one(Learnt).paragraphs[1] == "More of it."
    assert one(Learnt).source == 'nobody, "On words", arXiv:0000.00000.'


def test_the_dim_is_told_where_the_default_options_decide_it() -> None:
    dims = {p.component.name: installed(PLUGINS, p).dim for p in PLUGINS if p.kind == "encoder"}
    assert (dims["letters"], dims["prosody"], dims["hubert"]) == (26, 210, None)
    assert dims["imported"] is None  # its width is an option that must be given


def resolved(snippet: str, folder: Path) -> Pipeline:
    """Return the pipeline of a small registry with the keys of the snippet in it."""
    registry: dict[str, Any] = {
        "classes": ["sad", "happy"],
        "features": {"few": {"uses": "letters", "inputs": {"text": "text"}, "frames": True}},
        "fusion": "centroid",
        "branches": {"all": "few"},
        "ensemble": "majority",
    }
    for key, value in yaml.safe_load(snippet).items():
        registry[key] = registry.get(key, {}) | value if isinstance(value, dict) else value
    (folder / "registry.yaml").write_text(yaml.safe_dump(registry))
    return resolve(Registry.read(folder / "registry.yaml"), PLUGINS)


@pytest.mark.parametrize("provided", EVERY, ids=lambda p: f"{p.kind}-{p.component.name}")
def test_the_yaml_to_paste_resolves_with_the_component_in_it(
    provided: Provided, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "musan/noise").mkdir(parents=True)  # the example of add_noise
    (tmp_path / "musan/noise/a.wav").touch()
    found = installed(PLUGINS, provided)
    assert found.problem == ""
    pipeline = resolved(found.yaml, tmp_path)
    used = [
        *(node.component for node in pipeline.nodes.values()),
        pipeline.branches["all"].fusion,
        pipeline.ensemble,
    ]
    assert found.component in used


def test_a_component_that_cannot_be_built_from_its_defaults_says_what_it_lacks() -> None:
    both = installed(PLUGINS, find(PLUGINS, "both"))
    assert both.problem == "both: with.first: Field required"
    assert both.yaml == "features:\n  both: {uses: both, inputs: {text: text}}"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("huber", None, "no component is called 'huber'; did you mean 'hubert'?"),
        ("zzz", None, "no component is called 'zzz'; `mer plugins` lists what is installed"),
        ("hubert", "fusion", "no fusion is called 'hubert'; 'hubert' is an encoder"),
    ],
)
def test_an_unknown_component_gets_the_nearest_name(name: str, kind: str | None, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        find(PLUGINS, name, kind)
    assert str(caught.value) == said


def test_a_name_of_two_kinds_wants_to_know_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = Path(mercore_toys.__file__).read_text().replace('"shout"', '"letters"')
    plugins = Plugins([install(tmp_path, "acme-both", code)])
    with pytest.raises(PluginError, match="'letters' is preprocessor and encoder; say which by"):
        find(plugins, "letters")
    assert find(plugins, "letters", "encoder").kind == "encoder"


BAD = """

from pydantic import model_validator

class Bad(Letters):
    name = "bad"

    @model_validator(mode="after")
    def _check(self):
        return 1 // 0

    @property
    def dim(self):
        return 1 // 0

    def checkpoints(self):
        return 1 // 0

@hookimpl
def encoders():
    return [Bad]
"""


class At(Encoder):
    name: ClassVar[str] = "at"
    inputs: ClassVar = {"text": Words()}
    checkpoint: str = "acme/net"
    below: Encoder | None = None

    def load(self, device: str, dtype: str) -> Encode:
        raise NotImplementedError


class Packed(At):
    name: ClassVar[str] = "packed"
    checkpoint: str = __file__

    def checkpoints(self) -> Sequence[str | Path]:
        return [Path(self.checkpoint)]


def state(component: Encoder) -> str:
    return state_of(weights_of(component))


def test_weights_on_disk_are_here_and_others_come_with_a_cure(tmp_path: Path) -> None:
    assert state(At(checkpoint=str(tmp_path))) == HERE
    (found,) = weights_of(At(checkpoint=str(tmp_path / "no")))
    assert (found.state, found.cure) == (MISSING, "give another path, or a hub id")
    (found,) = weights_of(At(checkpoint="acme/net@v1"))
    assert found.state == MISSING
    assert "`hf download acme/net --revision v1 --local-dir net`" in found.cure
    (found,) = weights_of(At(checkpoint="modelscope:acme/net"))
    assert "`modelscope download --model acme/net --local_dir net`" in found.cure


def test_weights_inside_a_package_are_told_from_those_that_left_it(tmp_path: Path) -> None:
    assert state(Packed()) == PACKAGED
    assert state(Packed(checkpoint=str(tmp_path / "gone"))) == MISSING


def test_the_weights_of_components_that_are_options_count_too(tmp_path: Path) -> None:
    assert state(At(checkpoint=str(tmp_path), below=At())) == MISSING
    assert state(At(checkpoint=str(tmp_path), below=Packed())) == HERE
    assert state(mercore_toys.Letters()) == NONE


def test_a_checkpoint_without_a_default_is_yours_to_give() -> None:
    class Open(At):
        name: ClassVar[str] = "open"
        checkpoint: str

    assert state(Open.model_construct()) == GIVEN


def test_a_component_that_raises_spoils_nothing_but_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = Path(mercore_toys.__file__).read_text() + BAD
    plugins = Plugins([install(tmp_path, "acme-bad", code)])
    found = installed(plugins, find(plugins, "bad"))
    assert found.problem == "ZeroDivisionError: integer division or modulo by zero"
    (weights,) = weights_of(found.component)
    assert (weights.state, found.dim) == (UNKNOWN, None)
    assert weights.cure == f"checkpoints() raises {found.problem}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of acme/net in an empty cache of the Hugging Face client."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--acme--net"


@pytest.mark.parametrize(
    ("files", "there"),
    [
        (["model.safetensors", "config.json"], HERE),
        (["config.json"], MISSING),
        (["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors"], HERE),
        (["a-00001-of-00002.safetensors"], MISSING),
    ],
)
def test_a_hub_copy_is_here_when_it_has_weights_and_all_their_shards(
    cache: Path, files: list[str], there: str
) -> None:
    commit = "0123456789" * 4
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text(commit)
    snapshot = cache / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).touch()
    assert state(At()) == there
    assert state(At(checkpoint=f"acme/net@{commit}")) == there
    assert state(At(checkpoint="acme/net@other")) == MISSING
