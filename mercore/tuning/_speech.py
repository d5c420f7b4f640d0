"""From a project to the training of a recogniser: which stream, which samples, which noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mercore.components import Preprocessor
from mercore.corrupt import worsening
from mercore.errors import PluginError, RunError, did_you_mean
from mercore.fingerprints import describe, fingerprint
from mercore.lock import locked
from mercore.manifest import UNLABELLED, Sample
from mercore.packages import needed, versions
from mercore.pipeline import Node
from mercore.reader import Reader
from mercore.tuning._corpus import Corpus
from mercore.tuning._options import described
from mercore.tuning._recognising import SelfTraining
from mercore.tuning._rounds import Json, Rounds
from mercore.tuning.folder import TuningFolder
from mercore.tuning.offers import tuning_of
from mercore.tuning.tune import reader_of

if TYPE_CHECKING:
    from mercore.project import Project


def tune(project: Project, node: Node, options: Mapping[str, Any], out: str | Path) -> Json:
    """Return what the training of a stream's recogniser came to; one interrupted goes on."""
    rounds = rounds_of(project, node, options, out)
    with locked(rounds.folder.path):
        return rounds.run()


def rounds_of(project: Project, node: Node, options: Mapping[str, Any], out: str | Path) -> Rounds:
    """Return the training of a stream's recogniser, with the streams it reads extracted.

    Raises RunError for wrong options, and RegistryError for folders of noise that are not there.
    """
    needed("rapidfuzz", "the error rate", "run `pip install 'mercore[speech]'`")
    component, folder = node.component, TuningFolder(Path(out))
    assert isinstance(component, Preprocessor)
    tuning = tuning_of(component, "tune", options)
    if not isinstance(tuning, SelfTraining):
        raise PluginError(f"{component.name!r}: its 'tune' is no SelfTraining")
    adding = worsening("add_noise", tuning.adding(folder.path, 0))
    folders = adding.model_copy(update={"voices": tuning.voices}).identity()
    data, recogniser = folder.path / "data", tuning.prepare(component)
    reader, samples = _read(project, node, tuning)
    seed = project.pipeline.registry.content.seed
    about: Json = {
        "aim": "tune",
        "stream": node.name,
        "recogniser": describe(component),
        "options": {**described(tuning), **folders},
        "seed": seed,
        "data": fingerprint([[each.id, each.media.get("text")] for each in samples]),
        "versions": versions({node.origin}),
    }
    machine, watch = project.machine, project.watch
    corpus = Corpus(samples, reader, tuning, recogniser, data, machine.threads, seed, watch)
    return Rounds(component, tuning, corpus, folder, about, machine, seed, watch)


def _read(project: Project, node: Node, tuning: SelfTraining) -> tuple[Reader, list[Sample]]:
    for split in tuning.splits:
        if split not in project.manifest.splits and split != UNLABELLED:
            known = project.manifest.splits
            hint = did_you_mean(split, known) or f"; has {', '.join(known)}"
            raise RunError(f"splits: the manifest has no split {split!r}{hint}")
    reader, upstream = reader_of(project, node)
    chosen = [
        sample
        for sample in project.manifest.samples
        if sample.split in tuning.splits and all(stream.has(sample) for stream in upstream)
    ]
    if not any(sample.media.get("text") for sample in chosen):
        raise RunError(
            f"no sample of the splits {', '.join(tuning.splits)} has a text to train on; give "
            "what is said in the manifest's column `text`"
        )
    return reader, chosen
