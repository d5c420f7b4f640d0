"""From a project to a training: which encoder, which samples, which fold is held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from mercore.components import Encoder, MediaComponent
from mercore.errors import PluginError, RunError
from mercore.fingerprints import describe, fingerprint
from mercore.packages import installed, needed, versions
from mercore.pipeline import Node
from mercore.reader import Reader, Upstream
from mercore.sources import Sources
from mercore.tuning._folds import Targets, parted
from mercore.tuning._options import Classifying, Tuning, described, reading
from mercore.tuning._trunk import Trunk
from mercore.tuning.folder import TuningFolder
from mercore.tuning.offers import feature_of, node_of, tuning_of
from mercore.tuning.processes import one_first

if TYPE_CHECKING:
    from mercore.project import Project
    from mercore.tuning._job import Job


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
        asked = _asked(project, name, options, out, fold)
        scores = asked.folder.done(asked.about) or asked.job().run()
        trained = asked.tuning.trained(asked.encoder, asked.folder.checkpoint)
    own = node.component.model_dump(mode="json")
    new = trained.model_dump(mode="json").items()
    changed: JsonValue = {name: value for name, value in new if value != own[name]}
    return {node.kind: node.name, "uses": node.component.name, "with": changed, **scores}


def planned(
    project: Project, name: str, options: Mapping[str, Any], memory: int | None
) -> dict[str, JsonValue]:
    """Return the memory that a training takes; `memory` is what a device has, else the GPU's."""
    encoder, tuning, classes = on_labels(project, feature_of(project, name), options)
    return memory_of(tuning, encoder, len(classes), memory)


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
    return _asked(project, name, options, out, fold).job()


@dataclass(frozen=True, eq=False)
class _Asked:
    """A training as it is asked for: what trains is not imported before it is needed."""

    project: Project
    node: Node
    encoder: Encoder
    tuning: Classifying
    classes: tuple[str, ...]
    fold: int
    reader: Reader
    train: Targets
    valid: Targets
    trunk: Trunk | None
    folder: TuningFolder

    @property
    def about(self) -> dict[str, JsonValue]:
        """All that decides the result."""
        content = self.project.pipeline.registry.content
        return {
            "aim": "tune",
            "feature": self.node.name,
            "encoder": describe(self.encoder),
            "options": described(self.tuning),
            "classes": list(self.classes),
            "fold": self.fold,
            "seed": content.seed,
            "samples": {"train": len(self.train.samples), "valid": len(self.valid.samples)},
            "data": fingerprint([content.folds, *self.train.described, *self.valid.described]),
            "trunk": self.trunk.node.fingerprint if self.trunk else None,
            "versions": {**versions({self.node.origin}), **trainers()},
        }

    def job(self) -> Job:
        """Return what can be run."""
        from mercore.tuning._data import Samples
        from mercore.tuning._job import Job, Part

        train, valid = (
            Part(Samples(self.reader, targets.samples), targets.labels)
            for targets in (self.train, self.valid)
        )
        return Job(
            name=f"tune {self.node.name}",
            encoder=self.encoder,
            tuning=self.tuning,
            train=train,
            valid=valid,
            classes=self.classes,
            folder=self.folder,
            about=self.about,
            trunk=self.trunk,
            machine=self.project.machine,
            seed=self.project.pipeline.registry.content.seed,
            watch=self.project.watch,
        )


def _asked(
    project: Project, name: str, options: Mapping[str, Any], out: str | Path, fold: int
) -> _Asked:
    check_installed()
    node = feature_of(project, name)
    encoder, tuning, classes = on_labels(project, node, options)
    front = tuning.trunk(encoder)
    reader, upstream = reader_of(project, node)
    train, valid = parted(project, node.name, upstream, tuning, fold)
    trunk = Trunk.of(project, node, front, train.ids | valid.ids) if front else None
    folder = TuningFolder(Path(out))
    return _Asked(
        project, node, encoder, tuning, classes, fold, reader, train, valid, trunk, folder
    )


def check_installed() -> None:
    """Raise RunError where what trains is not installed."""
    if installed("transformers") is None:  # importing it takes a second
        needed("transformers", "training an encoder", "run `pip install 'mercore[tune]'`")


def on_labels(
    project: Project, node: Node, options: Mapping[str, Any]
) -> tuple[Encoder, Classifying, tuple[str, ...]]:
    """Return the encoder of a feature, its training on labels, and the classes to learn."""
    encoder = node.component
    assert isinstance(encoder, Encoder)
    tuning = tuning_of(encoder, "tune", options)
    if not isinstance(tuning, Classifying):
        raise PluginError(f"encoder {encoder.name!r}: its 'tune' is no Classifying")
    classes = tuning.targets(project.classes)
    return encoder, tuning.learning(classes), classes


def trainers() -> dict[str, str]:
    """Return the versions of what trains."""
    found = {name: installed(name) for name in ("transformers", "accelerate", "peft")}
    return {name: version for name, version in found.items() if version}


def reader_of(project: Project, node: Node) -> tuple[Reader, list[Upstream]]:
    """Return what reads the inputs of the feature, once the streams they come from are there."""
    streams = node.upstream(project.pipeline.streams)
    if streams:
        with one_first():
            project.extract(streams)
    upstream = {
        name: Upstream.of(project.pipeline.streams[name], project.store) for name in streams
    }
    reader = Reader(node, upstream, Sources(), project.machine.limits)
    return reader, list(upstream.values())
