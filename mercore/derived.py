"""The streams of a project's samples, by name: transcripts, denoised speech, faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mercore.components import Preprocessor, Record
from mercore.errors import RegistryError, RunError, did_you_mean
from mercore.media import Media, Spec, Text
from mercore.pipeline import ROOTS, Node, Pipeline
from mercore.selection import Selection
from mercore.store import Store
from mercore.stored import Stored
from mercore.streams import medium_name, unpack


@dataclass(frozen=True, eq=False, repr=False)
class SampleStream:
    """A stream of some samples: ``stream["clip1"]`` is the medium of one.

    It is as it was when it was asked for: ask the project for it again after ``extract``.
    """

    name: str
    samples: Selection
    spec: Spec
    stored: Stored

    @classmethod
    def of(cls, node: Node, store: Store, samples: Selection) -> SampleStream:
        """Return the stream of a node; raises RunError where nothing of it is extracted."""
        assert isinstance(node.component, Preprocessor)
        stored = Stored.of(node, "streams", store, samples)
        return cls(node.name, samples, node.component.output, stored)

    def __repr__(self) -> str:
        medium = medium_name(self.spec)
        lost = f", missing={len(self.missing)}" if self.missing else ""
        return f"{type(self).__name__}({self.name!r}, {medium}, samples={len(self)}{lost})"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Media]:
        """Yield the medium of each sample, one after another in memory."""
        return (self[id] for id in self.ids)

    def __getitem__(self, key: str | int) -> Media:
        id = self.ids[self.samples.row(key)]
        self.stored.require([id])
        record = self.stored.collection.entries()[id].record
        return unpack(self.stored.collection.sequence(id), record, self.spec)

    @property
    def ids(self) -> list[str]:
        """The ids of the samples."""
        return self.samples.ids

    @property
    def missing(self) -> Mapping[str, str]:
        """Id to reason for the samples that have no such medium."""
        return self.stored.missing(self.samples)

    def record(self, key: str | int) -> Record:
        """Return what the preprocessor noted of a sample: a confidence, a decision, a warning."""
        id = self.ids[self.samples.row(key)]
        entries = self.stored.collection.entries()
        return entries[id].record if id in entries else {}

    def texts(self, missing: Literal["raise", "empty", "drop"] = "raise") -> list[str]:
        """Return the words of each sample, of a stream of words.

        Samples without any are a RunError, ``""``, or left out.
        """
        if medium_name(self.spec) != "words":
            raise RunError(f"stream {self.name!r} is {medium_name(self.spec)}, it has no words")
        if missing not in ("raise", "empty", "drop"):
            raise RunError(f"missing {missing!r}: expected 'raise', 'empty' or 'drop'")
        if missing == "raise":
            self.stored.require(self.ids, "give missing='empty' or missing='drop'")
        there = [id for id in self.ids if id not in self.stored.lacking]
        packed = self.stored.collection.sequences(there)
        media = [unpack(array, {}, self.spec) for array in packed]
        words = dict(zip(there, map(_words, media), strict=True))
        return [words.get(id, "") for id in (there if missing == "drop" else self.ids)]


def _words(media: Media) -> str:
    assert isinstance(media, Text)
    return media.content


@dataclass(frozen=True, eq=False, repr=False)
class SampleStreams:
    """The derived streams of some samples; iterating gives their names."""

    pipeline: Pipeline
    store: Store
    samples: Selection

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, samples={len(self.samples)})"

    def __len__(self) -> int:
        return len(self.pipeline.streams)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pipeline.streams)

    def __contains__(self, name: object) -> bool:
        return name in self.pipeline.streams

    def __getitem__(self, name: str) -> SampleStream:
        node = self.pipeline.streams.get(name)
        if node is not None:
            return SampleStream.of(node, self.store, self.samples)
        if name in ROOTS:
            raise RegistryError(
                f"{name!r} is a column of the manifest, not a derived stream; "
                "project.manifest.samples has it"
            )
        feature = name in self.pipeline.features
        hint = "; project.features has it" if feature else did_you_mean(str(name), self)
        raise RegistryError(f"the registry has no stream {name!r}{hint}")
