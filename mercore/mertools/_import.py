"""Feature folders, labels and transcripts of MERTools into a store, a manifest and a registry."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mercore.errors import ManifestError, few
from mercore.folder import replace
from mercore.manifest import UNLABELLED, Sample
from mercore.mertools._content import Content, inspect
from mercore.mertools._fill import Filling, ImportedFeature
from mercore.mertools._folders import Source, find
from mercore.mertools._labels import CLASSES, Label, placeholders, read_labels, read_transcripts
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.schema import schema_line
from mercore.store import Store
from mercore.watch import Silent, Watch
from mercore.writing import flow, manifest_text, refuse_existing

_INTRODUCTION = """\
# Features of MERTools, imported by `mer import mertools`. Their values are in the store alone: an
# imported feature cannot be computed for new clips. Any encoder may take the place of one.
"""


@dataclass(frozen=True)
class Destination:
    """Where an import goes."""

    manifest: Path = Path("manifest.csv")
    registry: Path = Path("registry.yaml")
    store: str | Path = "mer.zarr"
    endpoint: str | None = None
    """The URL of an S3 server."""
    overwrite: bool = False
    """Whether a manifest and a registry that are there are replaced."""

    def check(self) -> None:
        """Raise RunError where a file would be replaced that must not be."""
        if not self.overwrite:
            cure = "give other names (--manifest-out, --registry-out) or --overwrite"
            refuse_existing((self.manifest, self.registry), cure)


@dataclass(frozen=True)
class Import:
    """What an import came to."""

    destination: Destination
    splits: Mapping[str, int]
    """How many samples each split has."""
    features: Sequence[ImportedFeature]
    notes: Sequence[str]
    """What was found in the labels that a user should know."""
    seconds: float


def import_mertools(
    folders: Iterable[str | Path],
    labels: str | Path,
    *,
    transcripts: str | Path | None = None,
    to: Destination | None = None,
    classes: Sequence[str] = CLASSES,
    fusion: str = "attention",
    trust_pickles: bool = False,
    skip_missing: bool = False,
    threads: int = 2,
    memory: int = 2**29,
    watch: Watch | None = None,
) -> Import:
    """Put features of MERTools into a store, write manifest and registry; return what that came to.

    `folders` are ``NAME-UTT`` and ``NAME-FRA``, or folders of those. Two of one name are one
    feature; of a ``-FRA`` alone the pooled vector is the mean of its frames. Values are kept as
    float32, sequences too. A sample that lacks a file, or whose file is broken, fails alone. For
    `labels` see ``read_labels``; a sample with features and without a label is ``unlabelled``.
    `skip_missing` leaves out labelled samples without any file. `fusion` is that of the branch of
    all features which the registry declares. What was imported before is not imported again.
    Values beyond `memory` bytes are read twice: to know what they are, and to store them.

    Raises RunError for wrong folders and ManifestError for wrong labels or transcripts, before
    anything is written.
    """
    began = time.perf_counter()
    to, watch = to or Destination(), watch or Silent()
    to.check()
    sources = find(folders)
    known, notes = _known(
        read_labels(labels, classes, trust_pickles=trust_pickles), sources, skip_missing
    )
    words = read_transcripts(transcripts) if transcripts else {}
    samples = _samples(known, sources, words)
    contents = _contents(sources, threads, memory, watch)
    registry = _registry(classes, sources, contents)
    store = Store(to.store, endpoint=to.endpoint)
    filling = Filling(_pipeline(registry), samples, store, threads, watch)
    features = [filling.fill(*both) for both in zip(sources, contents, strict=True)]
    replace(to.manifest, manifest_text(samples, to.manifest.parent).encode())
    text = schema_line(to.registry) + registry + _branches(fusion, sources)
    replace(to.registry, text.encode())
    splits = Counter(sample.split for sample in samples)
    return Import(to, splits, features, notes, time.perf_counter() - began)


def _known(
    labels: Sequence[Label], sources: Sequence[Source], skip_missing: bool
) -> tuple[list[Label], list[str]]:
    """Return the labels of samples that have features, and what to say of the others."""
    there = _names(sources)
    known = [label for label in labels if label.name in there]
    lost = [label.name for label in labels if label.name not in there]
    if lost and not (known and skip_missing):
        named = few([repr(name) for name in lost])
        raise ManifestError(
            f"{len(lost)} of {len(labels)} labelled samples have no file in any folder: {named}; "
            "extract them, or leave them out with --skip-missing"
        )
    notes = [f"{len(lost)} labelled samples without features were left out"] if lost else []
    false = placeholders(known)
    notes += [
        f"all samples of {split} are labelled {label!r}, as MERTools does where it knows no label; "
        "taken as not labelled"
        for split, label in false.items()
    ]
    return [label.without_label() if label.split in false else label for label in known], notes


def _contents(sources: Sequence[Source], threads: int, memory: int, watch: Watch) -> list[Content]:
    contents: list[Content] = []
    for source in sources:
        contents.append(inspect(source, threads, watch, memory))
        memory -= contents[-1].size
    return contents


def _names(sources: Sequence[Source]) -> frozenset[str]:
    return frozenset[str]().union(*(source.names for source in sources))


def _samples(
    labels: Sequence[Label], sources: Sequence[Source], words: Mapping[str, Mapping[str, str]]
) -> list[Sample]:
    """Return the labelled samples in the order of the file, then the others by name."""
    rest = sorted(_names(sources) - {label.name for label in labels})
    found = []
    for row in [*labels, *(Label(name, UNLABELLED, "") for name in rest)]:
        said = dict(words.get(row.name, {}))
        text = said.pop(next(iter(said)), "") if said else ""
        media = {"text": text} if text else {}
        extra = said | {"valence": row.valence}
        found.append(Sample(row.name, row.split, row.label or None, media, extra))
    return found


def _registry(
    classes: Sequence[str], sources: Sequence[Source], contents: Sequence[Content]
) -> str:
    """Return the text of a registry without branches."""
    lines = [f"{_INTRODUCTION}classes: {flow(list(classes))}\n\nfeatures:\n"]
    for source, content in zip(sources, contents, strict=True):
        options = {"source": source.source, "digest": content.digest, "width": content.width}
        use: dict[str, object] = {"uses": "imported", "with": options}
        use |= {"frames": True} if source.frames else {}
        lines.append(f"  {source.name}: {flow(use)}\n")
    return "".join(lines)


def _branches(fusion: str, sources: Sequence[Source]) -> str:
    """Return the text that declares one branch of all features."""
    features = " + ".join(source.name for source in sources)
    return f"\nfusion: {fusion}\nbranches:\n  all: {features}\n"


def _pipeline(registry: str) -> Pipeline:
    """Return what a registry that is not written yet describes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "registry.yaml"
        path.write_text(registry, encoding="utf-8")
        return resolve(Registry.read(path), Plugins())
