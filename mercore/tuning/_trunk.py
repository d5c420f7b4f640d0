"""What is in front of the trained part of a network: run once, and kept in the store.

It is extracted as features are, in batches that are committed one after another, so that it goes on
where it was interrupted, and another training with the same trunk reads what is there.
"""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mercore.components import Encoder
from mercore.errors import InputError
from mercore.fingerprints import describe, fingerprint
from mercore.manifest import Manifest
from mercore.pipeline import Node
from mercore.store import Collection, Entry
from mercore.tuning.processes import take_device

if TYPE_CHECKING:
    from mercore.project import Project


@dataclass(frozen=True)
class StoredRows:
    """The rows of one sample, each read from the store when it is asked for."""

    collection: Collection
    sample: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int, /) -> NDArray[Any]:
        return self.collection.row(self.sample, row)


@dataclass(frozen=True)
class Kept:
    """What a trunk gave of each sample, by id."""

    collection: Collection
    entries: Mapping[str, Entry]

    def __getitem__(self, sample: str) -> StoredRows:
        """Return the rows of a sample; raises InputError where there are none."""
        entry = self.entries[sample]
        if entry.failed is not None:
            raise InputError(entry.failed)
        return StoredRows(self.collection, sample, entry.length)


@dataclass(frozen=True)
class Trunk:
    """The trunk of one training, and the samples that it is for."""

    project: Project
    node: Node
    samples: Several[str]

    @classmethod
    def of(cls, project: Project, node: Node, encoder: Encoder, samples: Several[str]) -> Trunk:
        """Return the trunk `encoder` of what is trained of the feature `node`."""
        decided_by = fingerprint([node.fingerprint, describe(encoder), repr(encoder.needs())])
        own = replace(
            node,
            name=f"{node.name}_trunk",
            component=encoder,
            fingerprint=decided_by,
            trunk=True,
        )
        return cls(project, own, samples)

    def kept(self) -> Kept:
        """Return what it gives of the samples, extracted as far as the store lacks it."""
        project, node = self.project, self.node
        samples = [sample for sample in project.manifest.samples if sample.id in self.samples]
        part = replace(
            project,
            pipeline=replace(project.pipeline, features={node.name: node}),
            manifest=Manifest.of(project.manifest.path, samples),
        )
        take_device(project.machine.chosen_device())
        part.extract([node.name])  # processes that train together share the work
        (group,) = node.groups
        collection = project.store.collection(group, node.name, node.fingerprint)
        assert collection is not None  # it was extracted
        return Kept(collection, collection.entries())
