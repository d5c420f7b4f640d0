"""Features, labels and transcripts of a project as files that MERTools reads."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercore.errors import InputError, RegistryError, RunError, did_you_mean, few
from mercore.folder import replace
from mercore.imported import Imported
from mercore.manifest import Sample
from mercore.mertools._folders import POOLED, SEQUENCES
from mercore.mertools._labels import MISSING, corpus_name
from mercore.pipeline import Node
from mercore.project import Project
from mercore.store import Collection
from mercore.table import csv_text
from mercore.watch import Silent, Watch

_AT_ONCE = 256  # samples read from the store in one go


@dataclass(frozen=True)
class ExportedFeature:
    """What exporting one feature came to."""

    name: str
    folders: Sequence[Path]
    samples: int
    """Those that have a file."""
    failed: int
    """Those that the store has no values of, so that MERTools cannot read the feature of them."""


@dataclass(frozen=True)
class Export:
    """What an export came to."""

    path: Path
    features: Sequence[ExportedFeature]
    labels: Path
    """The npz of dicts; a csv of all samples lies beside it."""
    labelled: Mapping[str, int]
    """How many samples of each split are in the npz."""
    transcripts: Path | None


def export_mertools(
    project: Project, out: str | Path, names: Iterable[str] = (), *, watch: Watch | None = None
) -> Export:
    """Write what MERTools reads below `out`, a new or empty folder; return what that came to.

    ::

        features/NAME-UTT/SAMPLE.npy    (dim,) float32
        features/NAME-FRA/SAMPLE.npy    (frames, dim) float32, where sequences are stored
        label-6way.npz                  a pickled dict a split, {name: {"emo": ..., "val": ...}}
        label.csv                       name, discrete, split, valence
        transcription.csv               name, chinese, english: where the manifest has words

    All features, or those named. NAME is MERTools' own where the feature was imported. Samples
    without a label are in the csv alone, since MERTools takes a label for each sample as true.

    Raises RunError where a feature is not extracted, `out` is not empty, or the id of a sample
    cannot be the name of a file.
    """
    out, watch = Path(out), watch or Silent()
    nodes = _nodes(project, list(names))
    pooled = {node.name: _collection(project, node) for node in nodes}
    _check(project, out, nodes)
    features = [_feature(project, node, pooled[node.name], out, watch) for node in nodes]
    samples = project.manifest.samples
    labels = replace(out / f"label-{len(project.pipeline.classes)}way.npz", _npz(project))
    replace(out / "label.csv", csv_text(_label_rows(samples)).encode())
    counts = Counter(sample.split for sample in _labelled(samples))
    words = _transcripts(samples)
    written = csv_text(words).encode()
    transcripts = replace(out / "transcription.csv", written) if words else None
    return Export(out, features, labels, counts, transcripts)


def _nodes(project: Project, names: Sequence[str]) -> list[Node]:
    known = project.pipeline.features
    for name in names:
        if name not in known:
            raise RegistryError(f"the registry has no feature {name!r}{did_you_mean(name, known)}")
    return [known[name] for name in names or known]


def _collection(project: Project, node: Node) -> Collection:
    """Return what is stored of a feature; raises RunError where that is not every sample."""
    found = project.store.collection("features", node.name, node.fingerprint)
    entries = found.entries() if found else {}
    missing = [id for id in project.ids if id not in entries]
    if found is None or missing:
        raise RunError(
            f"feature {node.name!r} lacks {len(missing)} of {len(project.ids)} samples, the first "
            f"is {missing[0]!r}; run `mer extract {node.name}`"
        )
    return found


def _check(project: Project, out: Path, nodes: Sequence[Node]) -> None:
    """Raise RunError where something would be mixed up, or written elsewhere."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: not an empty folder; what is in it would be mixed up with the rest")
    for name, count in Counter(map(_source, nodes)).items():
        if count > 1:
            raise RunError(f"{count} features would be {name!r} in MERTools; name one of them")
    bad = [id for id in project.ids if "/" in id or "\0" in id]
    if bad:
        named = few([repr(id) for id in bad])
        raise RunError(f"ids that cannot be names of files: {named}; rename those samples")


def _source(node: Node) -> str:
    """Return what MERTools calls the feature."""
    return node.component.source if isinstance(node.component, Imported) else node.name


def _feature(
    project: Project, node: Node, pooled: Collection, out: Path, watch: Watch
) -> ExportedFeature:
    folder = out / "features"
    parts = {folder / f"{_source(node)}-{POOLED}": pooled}
    frames = project.store.collection("frames", node.name, node.fingerprint)
    if frames and node.frames:
        parts[folder / f"{_source(node)}-{SEQUENCES}"] = frames
    watch.start(node.name, len(project.ids) * len(parts))
    written = 0
    for folder, collection in parts.items():
        written = _files(collection, project.ids, folder, node.name, watch)
    return ExportedFeature(node.name, list(parts), written, len(project.ids) - written)


def _files(
    collection: Collection, ids: Sequence[str], folder: Path, name: str, watch: Watch
) -> int:
    """Write one file a sample that has values; return how many."""
    pooled = collection.group == "features"
    entries = collection.entries()
    there = [id for id in ids if id in entries and entries[id].failed is None]
    watch.advance(name, len(ids) - len(there), len(ids) - len(there))
    partial = folder.with_name(f".{folder.name}.new")
    try:
        partial.mkdir(parents=True)
        for at in range(0, len(there), _AT_ONCE):
            part = there[at : at + _AT_ONCE]
            for id, values in zip(part, collection.sequences(part, np.float32), strict=True):
                (partial / f"{id}.npy").write_bytes(_npy(values[0] if pooled else values))
            watch.advance(name, len(part), 0)
        partial.rename(folder)  # whole, or not there
    except OSError as error:
        raise RunError(
            f"cannot write {folder}: {error}; free some space, or give another"
        ) from error
    return len(there)


def _npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _labelled(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label]


def _npz(project: Project) -> bytes:
    """Return a dict a split, as MERTools has them: arrays of one object, which numpy pickles."""
    corpora: dict[str, dict[str, dict[str, str | float]]] = {}
    for sample in _labelled(project.manifest.samples):
        valence = sample.extra.get("valence") or MISSING
        about: dict[str, str | float] = {"emo": sample.label or "", "val": float(valence)}
        corpora.setdefault(corpus_name(sample.split), {})[sample.id] = about
    file = io.BytesIO()
    arrays: dict[str, Any] = {
        name: np.array(corpus, dtype=object) for name, corpus in corpora.items()
    }
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _label_rows(samples: Sequence[Sample]) -> list[list[str]]:
    rows = [[s.id, s.label or "", s.split, s.extra.get("valence", "")] for s in samples]
    return [["name", "discrete", "split", "valence"], *rows]


def _transcripts(samples: Sequence[Sample]) -> list[list[str]]:
    """Return a row a sample, or nothing where no sample has words."""
    rows = [[sample.id, _words(sample), sample.extra.get("english", "")] for sample in samples]
    return [["name", "chinese", "english"], *rows] if any(row[1] for row in rows) else []


def _words(sample: Sample) -> str:
    """Return the words of a sample in one line; raises InputError for a file it cannot read."""
    path = sample.file("text")
    try:
        text = Path(path).read_text(encoding="utf-8") if path else sample.words("text") or ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    return " ".join(text.split())
