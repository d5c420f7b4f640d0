"""What registry.yaml describes: streams, features and branches, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from mercore.components import Ensemble, Fusion, MediaComponent, Preprocessor
from mercore.errors import ManifestError
from mercore.manifest import Manifest
from mercore.media import Audio, Spec, Video, Words
from mercore.registry import Registry

ROOTS: Mapping[str, type[Spec]] = {"video": Video, "audio": Audio, "text": Words, "id": Words}
"""The columns of the manifest that are streams, and the kind of medium in each."""


@dataclass(frozen=True)
class Node:
    """A stream or a feature: a component, what it reads, and the hash of all that decides it."""

    name: str
    component: MediaComponent
    inputs: Mapping[str, str]
    """Input name to stream."""
    roots: tuple[str, ...]
    """The columns of the manifest it is derived from in the end, in alphabetical order."""
    fingerprint: str
    origin: str
    """The distribution that provides the component, and its version."""
    dtype: str = "float32"
    frames: bool = False
    trunk: bool = False
    """Whether a training reads it, which needs the rows as they are: see ``mercore.tuning``."""

    def upstream(self, among: Mapping[str, Node]) -> list[str]:
        """Return the streams it reads that are nodes of their own."""
        return [stream for stream in self.inputs.values() if stream in among]

    @property
    def kind(self) -> str:
        """``stream`` or ``feature``."""
        return "stream" if isinstance(self.component, Preprocessor) else "feature"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the store that hold its results; the first has all of them."""
        if self.kind == "stream":
            return ("streams",)
        if self.trunk:
            return ("trunks",)
        return ("features", "frames") if self.frames else ("features",)


@dataclass(frozen=True)
class BranchNode:
    """A branch with its fusion."""

    name: str
    features: tuple[str, ...]
    fusion: Fusion
    origin: str
    """The distribution that provides the fusion, and its version."""
    found: Mapping[str, JsonValue] = field(default_factory=dict)
    """The options that a search found better than those of the registry."""


@dataclass(frozen=True)
class Pipeline:
    """What registry.yaml describes, ready to run; no weights are loaded."""

    registry: Registry
    streams: Mapping[str, Node]
    """In an order in which each comes after those it reads."""
    features: Mapping[str, Node]
    branches: Mapping[str, BranchNode]
    ensemble: Ensemble

    @property
    def nodes(self) -> dict[str, Node]:
        """Streams and features, each after those it reads."""
        return {**self.streams, **self.features}

    @property
    def used(self) -> list[str]:
        """The features of the branches, in alphabetical order."""
        return sorted({name for branch in self.branches.values() for name in branch.features})

    def upstream(self, name: str) -> list[str]:
        """Return all streams that a node is made from, those it reads itself first."""
        found = dict.fromkeys(self.nodes[name].inputs.values())
        for stream in (waiting := list(found)):
            node = self.streams.get(stream)
            new = [read for read in (node.inputs.values() if node else ()) if read not in found]
            found |= dict.fromkeys(new)
            waiting += new
        return list(found)

    def read_as(self, frames: int | None) -> list[str]:
        """Return the features of the branches whose fusion reads so many frames, sorted."""
        found = {
            name
            for branch in self.branches.values()
            if branch.fusion.most_frames == frames
            for name in branch.features
        }
        return sorted(found)

    def fingerprints(self, branch: BranchNode) -> dict[str, str]:
        """Return the fingerprint of each feature that the branch combines."""
        return {name: self.features[name].fingerprint for name in branch.features}

    def origins(self, branch: BranchNode) -> set[str]:
        """Return the distributions, with their versions, of all that a branch is made with."""
        made = {*branch.features}.union(*map(self.upstream, branch.features))
        return {branch.origin} | {self.nodes[name].origin for name in made if name in self.nodes}

    @property
    def bare(self) -> bool:
        """Whether a sample may give no medium: a feature needs no more than its id."""
        return any(node.roots == ("id",) for node in self.features.values())

    def check_media(self, manifest: Manifest) -> None:
        """Raise ManifestError when a node reads a medium that no sample gives."""
        for root in ROOTS:
            readers = [name for name, node in self.features.items() if root in node.roots]
            if readers and not manifest.gives(root):
                raise ManifestError(
                    f"{manifest.path}: no sample gives {root}, which {', '.join(readers)} "
                    "needs; add the column, or take the feature out of the registry"
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in their order."""
        return self.registry.content.classes
