"""From a project to a training: which encoder, which samples, which fold is held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue, ValidationError

from mercore.branches import assign_folds
from mercore.components import Encoder, IntArray, MediaComponent
from mercore.errors import PluginError, RegistryError, RunError, did_you_mean, few, listed
from mercore.fingerprints import describe, fingerprint
from mercore.packages import installed, needed, versions
from mercore.pipeline import Node
from mercore.reader import Reader, Upstream
from mercore.sources import Sources
from mercore.tuning._folder import TuningFolder
from mercore.tuning._options import Classifying, Training, Tuning, described, reading
from mercore.tuning._world import world

if TYPE_CHECKING:
    from mercore.project import Project
    from mercore.tuning._job import Job, Part


def node_of(project: Project, name: str) -> Node:
    """Return the feature or stream of that name, or the only one that uses such a component."""
    nodes = project.pipeline.nodes
    if name in nodes:
        return nodes[name]
    users = [node for node in nodes.values() if node.component.name == name]
    if len(users) == 1:
        return users[0]
    if users:
        found = ", ".join(node.name for node in users)
        raise RegistryError(f"{name!r} is used by several {users[0].kind}s: {found}; name one")
    known = [*nodes, *(node.component.name for node in nodes.values())]
    hint = did_you_mean(name, known) or f"; has {few(list(nodes))}"
    missing = f"no feature {name!r} or stream of that name, and none that uses it"
    raise RegistryError(f"the registry has {missing}{hint}")


def feature_of(project: Project, name: str) -> Node:
    """Return what ``node_of`` does, where it is a feature; raises RunError for a stream."""
    node = node_of(project, name)
    if node.kind != "feature":
        raise RunError(
            f"{name!r} is a stream, for `mer tune` alone; `mer pretrain`, --vary and --plan are "
            "for the encoders of features"
        )
    return node


def tuning_of(component: MediaComponent, aim: str, options: Mapping[str, Any]) -> Training:
    """Return the component's training of that aim; raises RunError for wrong options.

    PluginError: the component cannot be trained so.
    """
    kinds = component.tunings
    if aim not in kinds:
        others = f"; it offers {', '.join(kinds)}" if kinds else ""
        raise PluginError(
            f"{component.name!r} cannot be trained by `mer {aim}`{others}; "
            "`mer plugins` shows which can"
        )
    kind = kinds[aim]
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        raise RunError(f"mer {aim} {component.name}: {_said(kind, error)}") from error


def _said(kind: type[Training], error: ValidationError) -> str:
    lines = []
    for mistake in error.errors():
        name = ".".join(map(str, mistake["loc"])) or "the options"
        if mistake["type"] == "extra_forbidden":
            lines.append(f"no option {name!r}{did_you_mean(name, kind.model_fields)}")
        else:
            found = f", found {mistake['input']!r}" if mistake["loc"] else ""
            lines.append(f"{name}: {mistake['msg'].removeprefix('Value error, ')}{found}")
    return lines[0] if len(lines) == 1 else f"wrong options:{listed(lines)}"


def tune(
    project: Project, name: str, options: Mapping[str, Any], out: str | Path, *, fold: int = 0
) -> dict[str, JsonValue]:
    """Return what the training of a feature's encoder on the labelled train samples came to.

    Of a stream it is its recogniser that is trained, on transcripts; see ``_speech.tune``.
    ``with`` are the options by which the feature or stream reads what was trained.
    """
    node = node_of(project, name)
    trained: MediaComponent
    if node.kind == "stream":
        from mercore.tuning import _speech

        if fold:
            raise RunError(f"--fold {fold}: {name!r} is a stream; it has the option `held_out`")
        scores = _speech.tune(project, node, options, out)
        trained = reading(node.component, TuningFolder(Path(out)).checkpoint)
    else:
        job = job_of(project, name, options, out, fold=fold)
        scores = job.run()
        trained = job.tuning.trained(job.encoder, job.folder.checkpoint)
    own = node.component.model_dump(mode="json")
    new = trained.model_dump(mode="json").items()
    changed: JsonValue = {name: value for name, value in new if value != own[name]}
    return {node.kind: node.name, "uses": node.component.name, "with": changed, **scores}


def planned(
    project: Project, name: str, options: Mapping[str, Any], memory: int | None
) -> dict[str, JsonValue]:
    """Return the memory that a training takes; `memory` is what a device has, else the GPU's."""
    encoder, tuning = _on_labels(feature_of(project, name), options)
    return memory_of(tuning, encoder, len(tuning.targets(project.classes)), memory)


def memory_of(
    tuning: Tuning, encoder: Encoder, classes: int, memory: int | None
) -> dict[str, JsonValue]:
    """Return the memory of each strategy; `memory` is what a device has, else the GPU's."""
    check_installed()
    from mercore.tuning._plan import device_memory, plan

    found = plan(tuning, encoder, classes, memory or device_memory())
    needs: list[JsonValue] = [{**asdict(need), "total": need.total} for need in found.needs]
    return {"parameters": found.parameters, "trained": found.trained, "needs": needs}


def job_of(
    project: Project, name: str, options: Mapping[str, Any], out: str | Path, *, fold: int = 0
) -> Job:
    """Return the training of a feature's encoder, with the streams it reads extracted.

    The samples of the fold `fold` of the registry's cross-validation are held out.
    """
    check_installed()
    from mercore.tuning._job import Job

    node = feature_of(project, name)
    encoder, tuning = _on_labels(node, options)
    classes = tuning.targets(project.classes)
    train, valid = _parts(project, node, tuning, fold)
    about: dict[str, JsonValue] = {
        "aim": "tune",
        "feature": node.name,
        "encoder": describe(encoder),
        "options": described(tuning),
        "classes": list(classes),
        "fold": fold,
        "seed": project.pipeline.registry.content.seed,
        "samples": {"train": len(train.labels), "valid": len(valid.labels)},
        "data": fingerprint([project.pipeline.registry.content.folds, *_ids(train, valid)]),
        "versions": {**versions({node.origin}), **trainers()},
    }
    return Job(
        name=f"tune {node.name}",
        encoder=encoder,
        tuning=tuning,
        train=train,
        valid=valid,
        classes=classes,
        folder=TuningFolder(Path(out)),
        about=about,
        machine=project.machine,
        seed=project.pipeline.registry.content.seed,
        watch=project.watch,
    )


def check_installed() -> None:
    """Raise RunError where what trains is not installed."""
    needed("transformers", "training an encoder", "run `pip install 'mercore[tune]'`")


def _on_labels(node: Node, options: Mapping[str, Any]) -> tuple[Encoder, Classifying]:
    """Return the encoder of a feature, and its training on labels."""
    encoder = node.component
    assert isinstance(encoder, Encoder)
    tuning = tuning_of(encoder, "tune", options)
    if not isinstance(tuning, Classifying):
        raise PluginError(f"encoder {encoder.name!r}: its 'tune' is no Classifying")
    return encoder, tuning


def trainers() -> dict[str, str]:
    """Return the versions of what trains."""
    found = {name: installed(name) for name in ("transformers", "accelerate", "peft")}
    return {name: version for name, version in found.items() if version}


def _ids(*parts: Part) -> list[JsonValue]:
    return [
        [part.source.name(row), int(part.labels[row])]
        for part in parts
        for row in range(len(part.labels))
    ]


def _parts(project: Project, node: Node, tuning: Classifying, fold: int) -> tuple[Part, Part]:
    """Return the samples to train on, and those of the fold, as far as their streams are there."""
    content, samples = project.pipeline.registry.content, project.manifest.samples
    if not 0 <= fold < content.folds:
        raise RunError(f"fold {fold}: expected 0 to {content.folds - 1} (folds: {content.folds})")
    folds = assign_folds(
        samples, project.labels, content.folds, content.seed, project.pipeline.classes
    )
    reader, upstream = reader_of(project, node)
    targets = _targets(project, tuning)
    usable = np.array([all(stream.has(s) for stream in upstream) for s in samples])
    train = np.flatnonzero(usable & (folds >= 0) & (folds != fold))
    valid = np.flatnonzero(usable & (folds == fold))
    if not len(train) or not len(valid):
        streams = ", ".join(stream.name for stream in upstream)
        raise RunError(f"no sample has what {node.name!r} reads ({streams}); see `mer status`")
    return _part(reader, samples, targets, train), _part(reader, samples, targets, valid)


def _part(reader: Reader, samples: Any, targets: IntArray, rows: IntArray) -> Part:
    from mercore.tuning._data import Samples
    from mercore.tuning._job import Part

    return Part(Samples(reader, [samples[row] for row in rows]), targets[rows])


def reader_of(project: Project, node: Node) -> tuple[Reader, list[Upstream]]:
    """Return what reads the inputs of the feature, once the streams they come from are there."""
    streams = node.upstream(project.pipeline.streams)
    if streams:
        with _one_first():
            project.extract(streams)
    upstream = {
        name: Upstream.of(project.pipeline.streams[name], project.store) for name in streams
    }
    reader = Reader(node, upstream, Sources(), project.machine.limits)
    return reader, list(upstream.values())


@contextmanager
def _one_first() -> Iterator[None]:
    """Let one of several processes that train together do it, and then the others."""
    if world() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield


def _targets(project: Project, tuning: Classifying) -> IntArray:
    """Return ``(samples,)`` the class that each sample is to be learnt as, -1 for none."""
    classes = project.classes
    learnt = tuning.targets(classes)
    places = [learnt.index(tuning.label_map.get(label, label)) for label in classes]
    return np.array([*places, -1], np.int64)[project.labels]
