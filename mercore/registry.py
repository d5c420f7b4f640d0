"""registry.yaml: the experiment, read and checked.

Reading has two steps. ``Registry.read`` checks the shape of the file and that every name it uses
is declared; it needs no plugin. ``mercore.pipeline`` then looks up the components. Both report
all mistakes at once, each with its line and dotted key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mercore.document import Document, Key, Mistake
from mercore.errors import RegistryError, did_you_mean
from mercore.manifest import STREAMS, TRAIN, UNLABELLED

# The longest that a folder of the store can be named after.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        """Take a key without a value, such as ``with:``, as left out."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class Use(_Section):
    """A component and its options."""

    uses: Name = Field(description="The component's name; `mer plugins` lists them.")
    with_: dict[str, JsonValue] = Field(
        default_factory=dict, alias="with", description="The component's options."
    )


class StreamUse(Use):
    """A stream: a preprocessor and where its inputs come from."""

    inputs: dict[Name, Name] = Field(
        default_factory=dict,
        description="Input name to stream; may be left out where both have one name.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        default="float32", description="What the component computes in; results are float32."
    )


class FeatureUse(StreamUse):
    """A feature: an encoder and where its inputs come from."""

    frames: bool = Field(
        default=False, description="Keep the (frames, dim) sequences beside the pooled vectors."
    )


class Branch(_Section):
    """One classifier: a fusion trained on a combination of features."""

    features: Annotated[
        tuple[Name, ...],
        BeforeValidator(lambda value: _sum(value), json_schema_input_type=str | list[str]),
    ] = Field(description="The features, written as a sum: hubert + baichuan + vit.")
    uses: Name | None = Field(default=None, description="The fusion, when not the common one.")
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")


class Mining(_Section):
    """How pseudo-labels are mined."""

    split: Name = Field(default=UNLABELLED, description="The samples to mine.")
    rounds: int = Field(default=4, ge=1, description="At most so many; fewer when none is left.")
    agree: int = Field(default=3, ge=1, description="How many branches must give one label.")
    confidence: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="The least mean probability that those branches give the label.",
    )
    cap: int | None = Field(
        default=None,
        ge=1,
        description="Accept no more samples of a class in a round, the most confident first.",
    )
    warm: int | None = Field(
        default=None,
        ge=1,
        description="Go on from the weights of the round before, for so many epochs; else every "
        "round begins anew.",
    )


def _sum(value: object) -> object:
    return tuple(term.strip() for term in value.split("+")) if isinstance(value, str) else value


def _as_use(value: object) -> object:
    return {"uses": value} if isinstance(value, str) else value


def _as_branch(value: object) -> object:
    return {"features": value} if isinstance(value, str | list) else value


ShortUse = Annotated[Use, BeforeValidator(_as_use, json_schema_input_type=str | Use)]
ShortBranch = Annotated[
    Branch, BeforeValidator(_as_branch, json_schema_input_type=str | list[str] | Branch)
]


class Content(_Section):
    """The keys of registry.yaml."""

    classes: tuple[str, ...] = Field(min_length=2, description="The labels, in their order.")
    streams: dict[Name, StreamUse] = Field(
        default_factory=dict, description="Media derived from the manifest's and from each other."
    )
    features: dict[Name, FeatureUse] = Field(
        min_length=1, description="What encoders make of streams."
    )
    fusion: ShortUse = Field(
        default=Use(uses="attention"), description="What a branch uses unless it says otherwise."
    )
    branches: dict[Name, ShortBranch] = Field(
        default_factory=dict, description="One classifier each."
    )
    ensemble: ShortUse = Field(default=Use(uses="rank_mode"), description="How the branches vote.")
    mining: Mining | None = Field(default=None, description="Rounds of pseudo-labels.")
    folds: int = Field(default=5, ge=2, description="Folds of the cross-validation.")
    seed: int = Field(default=0, ge=0, description="Seed of folds and training.")


@dataclass(frozen=True)
class Registry:
    """A registry.yaml that is right in itself."""

    document: Document
    content: Content

    @classmethod
    def read(cls, path: str | Path) -> Registry:
        """Return the registry; raises RegistryError with every mistake, its line and key."""
        document = Document.read(Path(path))
        try:
            content = Content.model_validate(document.data)
        except ValidationError as error:
            found = [_mistake(part["loc"], part["type"], part["msg"]) for part in error.errors()]
            raise document.error([*document.duplicates, *found]) from error
        mistakes = [*document.duplicates, *_cross_references(content)]
        if mistakes:
            raise document.error(mistakes)
        return cls(document, content)

    def error(self, mistakes: Iterable[Mistake]) -> RegistryError:
        """Return the error that reports the mistakes found in a later step."""
        return self.document.error(mistakes)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of registry.yaml, for editors."""
    return Content.model_json_schema(by_alias=True) | {"title": "mercore registry.yaml"}


def _mistake(location: Key, kind: str, message: str) -> Mistake:
    if kind == "extra_forbidden":
        known = _known(location[:-1])
        hint = did_you_mean(str(location[-1]), known)
        message = "unknown key" + (hint or f"; expected one of {', '.join(known)}")
    if kind == "string_type" and location[0] == "classes":
        message = "not a text; put it in quotes, YAML reads yes, no, on, off and numbers otherwise"
    if kind == "string_pattern_mismatch":
        message = "names are lower-case letters, digits and '_', and start with a letter"
    return tuple(part for part in location if part != "[key]"), message


def _known(location: Key) -> list[str]:
    """Return the keys that may stand at a place of the file."""
    sections: dict[str, type[_Section]] = {
        "": Content,
        "streams": StreamUse,
        "features": FeatureUse,
        "branches": Branch,
        "mining": Mining,
    }
    model = sections.get(str(location[0]) if location else "", Use)
    return [info.alias or name for name, info in model.model_fields.items()]


def _cross_references(content: Content) -> Iterator[Mistake]:
    if len(set(content.classes)) < len(content.classes):
        yield ("classes",), "a class is listed twice"
    if "" in content.classes:
        yield ("classes",), "a class has no name"
    for section, names in (("streams", content.streams), ("features", content.features)):
        for name in set(names) & set(STREAMS):
            yield (section, name), "is a column of the manifest; give it another name"
    for name in set(content.streams) & set(content.features):
        yield ("features", name), "is a stream too; give one of them another name"
    yield from _mining_mistakes(content)
    streams = [*STREAMS, *content.streams]
    for section, uses in (("streams", content.streams), ("features", content.features)):
        for name, use in uses.items():
            for given, stream in use.inputs.items():
                if stream not in streams:
                    hint = did_you_mean(stream, streams)
                    yield (section, name, "inputs", given), f"no stream is called {stream!r}{hint}"
    for name, branch in content.branches.items():
        yield from _branch_mistakes(name, branch, content)


def _mining_mistakes(content: Content) -> Iterator[Mistake]:
    if content.mining and content.mining.agree > len(content.branches):
        count = len(content.branches)
        yield ("mining", "agree"), f"{content.mining.agree} of {count} branches cannot agree"
    if content.mining and content.mining.split == TRAIN:
        yield ("mining", "split"), "the train split has labels already"


def _branch_mistakes(name: str, branch: Branch, content: Content) -> Iterator[Mistake]:
    for feature in branch.features:
        if feature not in content.features:
            hint = did_you_mean(feature, content.features)
            yield ("branches", name), f"no feature is called {feature!r}{hint}"
    if len(set(branch.features)) < len(branch.features):
        yield ("branches", name), "a feature is added twice"
    if not branch.features:
        yield ("branches", name), "no features; write a sum: hubert + baichuan + vit"
