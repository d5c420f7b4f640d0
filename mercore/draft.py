"""The first registry for some data: features that fit its media, branches, comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from mercore.components import Encoder, Fusion
from mercore.errors import PluginError, RegistryError
from mercore.media import Audio, Spec, Video
from mercore.plugins import Plugins
from mercore.writing import flow

_STARTER: Mapping[str, tuple[str, Mapping[str, JsonValue]]] = {
    "whisper": ("speech", {"quantize": True, "padding": 1}),
    "prosody": ("prosody", {}),
    "minilm": ("words", {}),
    "face_expression": ("face", {}),
}
"""Encoders that run from nothing, the feature that each gives, and options for a quick start."""
_STREAMS: Mapping[str, tuple[str, str, Mapping[str, JsonValue], str]] = {
    "transcript": ("whisper_asr", "audio", {"beam": 1}, "what is said, in words"),
    "faces": ("mtcnn", "video", {"count": 4}, "the face in four frames of a clip"),
}
"""Stream to the preprocessor that derives it, what that reads, its options, and what it is."""
_FUSIONS: Mapping[str, Mapping[str, JsonValue]] = {"attention": {"epochs": 30}, "linear": {}}


@dataclass(frozen=True)
class Data:
    """What a registry has to fit."""

    layout: str
    classes: Sequence[str]
    media: frozenset[str]
    """Those that samples have: ``video``, ``audio``, ``text``; the track of a video is audio."""
    language: str
    minable: bool
    """Whether there are unlabelled samples."""
    folds: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Feature:
    """A feature of the draft."""

    name: str
    encoder: str
    inputs: Mapping[str, str]
    options: Mapping[str, JsonValue]

    @property
    def medium(self) -> str:
        """The medium that it is of, first of all."""
        kinds = {"transcript": "text", "faces": "video"}
        return next((kinds.get(stream, stream) for stream in self.inputs.values()), "")


def features_for(data: Data, plugins: Plugins, names: Sequence[str] | None) -> list[Feature]:
    """Return the features of the encoders of those names, or of the starter's that fit the data.

    Raises PluginError for an encoder that is not installed, and RegistryError for one that reads
    what the data do not have.
    """
    if names is not None:
        return [_feature(name, data, plugins) for name in dict.fromkeys(names)]
    installed = {x.component.name for x in plugins if x.kind == "encoder"}
    found = []
    for name in _STARTER:
        if name in installed and not (name == "minilm" and data.language == "zh"):
            try:
                found.append(_feature(name, data, plugins))
            except RegistryError:  # a medium that is not there
                continue
    if not found:
        raise PluginError(
            "no encoder of mercore-starter fits these data; install it, or name installed ones "
            "with --features (`mer plugins` lists them)"
        )
    return found


def text_of(data: Data, features: Sequence[Feature], plugins: Plugins) -> str:
    """Return the registry as YAML with comments, without the line for editors."""
    sections = [
        _introduction(data),
        "# The labels, in their order. Each label of the manifest is one of them.\n"
        f"classes: {flow(list(data.classes))}",
        "\n".join(_streams(features)),
        "\n".join(_features(data, features)),
        "\n".join(_branches(features, plugins)),
        "\n".join(_decisions(data, features)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _feature(name: str, data: Data, plugins: Plugins) -> Feature:
    feature, options = _STARTER.get(name, (name, {}))
    component = plugins.build(Encoder, name, options)
    inputs = {
        given: _stream(name, spec, data, plugins)
        for given, spec in component.needs().items()
        if given not in component.optional
    }
    return Feature(feature, name, inputs, options)


def _stream(encoder: str, spec: Spec, data: Data, plugins: Plugins) -> str:
    """Return the stream that an input of this kind reads; RegistryError where there is none."""
    medium, stream = _source(spec, data)
    if medium not in data.media:
        raise RegistryError(f"encoder {encoder!r} reads {medium}, which no clip has")
    installed = {x.component.name for x in plugins if x.kind == "preprocessor"}
    if stream not in _STREAMS or _STREAMS[stream][0] in installed:
        return stream
    if stream == "faces":
        return "video"
    raise RegistryError(
        f"encoder {encoder!r} reads text, which no clip has; install mercore-starter, which "
        "transcribes, or name other encoders"
    )


def _source(spec: Spec, data: Data) -> tuple[str, str]:
    """Return the medium that an input comes from in the end, and the stream it reads."""
    if isinstance(spec, Audio):
        return "audio", "audio"
    if isinstance(spec, Video):
        return "video", "faces"
    if "text" in data.media or data.language == "zh":  # the starter's recogniser knows English
        return "text", "text"
    return "audio", "transcript"


def _introduction(data: Data) -> str:
    lines = [
        f"Written by `mer init` for data in the layout {data.layout}. It is yours: change what you "
        "like.",
        "`mer check` finds mistakes; `mer plugins` lists what may stand after `uses:`.",
        *data.notes,
    ]
    return "\n".join(f"# {line}" for line in lines)


def _streams(features: Sequence[Feature]) -> Iterator[str]:
    used = {stream for feature in features for stream in feature.inputs.values()}
    derived = [stream for stream in _STREAMS if stream in used]
    if not derived:
        return
    yield "# What is derived from the columns of the manifest: video, audio and text."
    yield "streams:"
    for stream in derived:
        uses, read, options, about = _STREAMS[stream]
        use = {"uses": uses, "inputs": {read: read}, "with": dict(options)}
        yield f"  {stream}: {flow(use)}  # {about}"


def _features(data: Data, features: Sequence[Feature]) -> Iterator[str]:
    yield "# What encoders make of them: a feature is computed once a clip and kept in the store."
    yield "features:"
    for feature in features:
        use: dict[str, object] = {"uses": feature.encoder, "inputs": dict(feature.inputs)}
        use |= {"with": dict(feature.options)} if feature.options else {}
        yield f"  {feature.name}: {flow(use)}"
    if not features:
        yield "  # NAME: {uses: ENCODER, inputs: {audio: audio}}"
    elif data.language == "zh" and "words" not in [feature.name for feature in features]:
        yield "  # The words are Chinese, and MiniLM reads English: give it a folder or hub id of a"
        yield "  # Chinese BERT, and take `words` into the branches."
        yield "  # words: {uses: minilm, inputs: {text: text}, with: {checkpoint: FOLDER_OR_ID}}"


def _branches(features: Sequence[Feature], plugins: Plugins) -> Iterator[str]:
    yield "# Each branch is one classifier: a fusion, trained on its features by cross-validation."
    yield f"fusion: {_fusion(plugins)}"
    yield "branches:"
    for name, combined in _combinations(features).items():
        yield f"  {name}: {' + '.join(combined)}"
    if not features:
        yield "  # NAME: FEATURE + FEATURE"


def _fusion(plugins: Plugins) -> str:
    installed = [x.component.name for x in plugins if x.kind == "fusion"]
    name = next((name for name in (*_FUSIONS, *installed) if name in installed), None)
    if name is None:
        raise PluginError("no fusion is installed; install mercore-attention or mercore-linear")
    options = dict(_FUSIONS.get(name, {}))
    plugins.build(Fusion, name, options)
    return flow({"uses": name, "with": options}) if options else name


def _combinations(features: Sequence[Feature]) -> dict[str, list[str]]:
    """Return up to three branches: of all features, and of the features of some media."""
    if not features:
        return {}
    of: dict[str, list[str]] = {}
    for feature in features:
        of.setdefault(feature.medium, []).append(feature.name)
    found = {"all": [feature.name for feature in features]}
    if len(of) > 2:
        first, *others = of
        return found | {f"{first[0]}{x[0]}": [*of[first], *of[x]] for x in others[:2]}
    if len(of) > 1:
        return found | of
    return found | ({name: [name] for name in found["all"][:2]} if len(features) > 1 else {})


def _decisions(data: Data, features: Sequence[Feature]) -> Iterator[str]:
    yield "# How the branches vote."
    yield "ensemble: rank_mode"
    branches = len(_combinations(features))
    if data.minable and branches > 1:
        yield ""
        yield "# Unlabelled clips on which `agree` branches agree are learned from, in rounds."
        agree = min(3, branches)
        yield f"mining: {flow({'split': 'unlabelled', 'rounds': 4, 'agree': agree})}"
    yield ""
    yield f"folds: {data.folds}  # of the cross-validation"
    yield "seed: 0"
