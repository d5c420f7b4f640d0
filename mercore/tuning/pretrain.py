"""From pictures, or the samples of a project, to a training without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from mercore.components import Encoder, MediaComponent, Noted, Preprocessor
from mercore.errors import PluginError, RunError
from mercore.fingerprints import describe
from mercore.machine import Machine
from mercore.media import Frames, Video
from mercore.packages import versions
from mercore.plugins import Plugins
from mercore.tuning._options import PicturePretraining, Unlabelled, described
from mercore.tuning.offers import feature_of, tuning_of
from mercore.tuning.tune import check_installed, memory_of, reader_of, trainers
from mercore.watch import Silent, Watch

if TYPE_CHECKING:
    from mercore.project import Project
    from mercore.tuning._data import Source
    from mercore.tuning._job import Job, Part
    from mercore.tuning._sift import Detector, Sieve


PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class Pretraining:
    """An encoder, and what it is to be pre-trained on: pictures, or samples of a manifest."""

    encoder: Encoder
    origin: str
    """The distribution that the encoder comes from, and its version."""
    source: Source
    given: Mapping[str, JsonValue]
    """Where it comes from, as it was asked for."""
    machine: Machine = field(default_factory=Machine)
    watch: Watch = field(default_factory=Silent)

    @classmethod
    def of_pictures(
        cls,
        name: str,
        *,
        images: Sequence[str] = (),
        shards: Sequence[str] = (),
        machine: Machine | None = None,
        watch: Watch | None = None,
    ) -> Pretraining:
        """Return the pre-training of the encoder `name` on folders of pictures, or on tar shards.

        Raises RunError for places without pictures, PluginError for an unknown encoder.
        """
        from mercore.tuning._pictures import Images, Shards

        if bool(images) == bool(shards):
            raise RunError("expected either folders of pictures or shards")
        plugins, machine = Plugins(), machine or Machine()
        encoder = plugins.build(Encoder, name, {})
        medium = _medium(encoder)
        source: Source
        if images:
            source = Images.below(images, medium, machine.limits)
        else:
            source = Shards.of(shards, medium, machine.limits)
        given: dict[str, JsonValue] = {"images": list(images), "shards": list(shards)}
        origin = plugins.provided("encoder", name).origin
        return cls(encoder, origin, source, given, machine, watch or Silent())

    @classmethod
    def of_project(cls, project: Project, name: str, splits: Sequence[str] = ()) -> Pretraining:
        """Return the pre-training of a feature's encoder on the samples of all splits, or of some.

        What of a sample is an example, the encoder decides: of a clip one frame, drawn anew in each
        epoch. The streams that the feature reads are extracted first; samples without them are
        passed over.
        """
        from mercore.tuning._data import Samples

        node = feature_of(project, name)
        assert isinstance(node.component, Encoder)
        known = dict.fromkeys(sample.split for sample in project.manifest.samples)
        if unknown := [split for split in splits if split not in known]:
            raise RunError(f"no split {unknown[0]!r}; the manifest has {', '.join(known)}")
        reader, upstream = reader_of(project, node)
        samples = [
            sample
            for sample in project.manifest.samples
            if (not splits or sample.split in splits)
            and all(stream.has(sample) for stream in upstream)
        ]
        given: dict[str, JsonValue] = {"feature": node.name, "splits": list(splits)}
        source = Samples(reader, samples)
        return cls(node.component, node.origin, source, given, project.machine, project.watch)

    def job(self, options: Mapping[str, Any], out: str | Path, *, seed: int = 0) -> Job:
        """Return the training; pictures that the options leave out are measured first."""
        check_installed()
        from mercore.tuning._job import Job
        from mercore.tuning.folder import TuningFolder

        tuning = self._tuning(options)
        train, valid, counts = self._parts(tuning, Path(out), seed)
        about: dict[str, JsonValue] = {
            "aim": "pretrain",
            "encoder": self._encoder(),
            "options": described(tuning),
            "seed": seed,
            "source": {**self.given, "found": len(self.source)},
            "data": self._fingerprint,
            "versions": {**versions({self.origin}), **trainers()},
        }
        return Job(
            name=f"pretrain {self.encoder.name}",
            encoder=self.encoder,
            tuning=tuning,
            train=train,
            valid=valid,
            classes=(),
            folder=TuningFolder(Path(out)),
            about=about,
            machine=self.machine,
            seed=seed,
            watch=self.watch,
            data={
                "found": len(self.source), "left_out": {**counts},
                "trained_on": len(train.labels), "held_out": len(valid.labels),
            },
        )  # fmt: skip

    def planned(self, options: Mapping[str, Any], memory: int | None) -> dict[str, JsonValue]:
        """Return the memory that it takes; `memory` is what a device has, else the GPU's."""
        return memory_of(self._tuning(options), self.encoder, 0, memory)

    def _encoder(self) -> dict[str, JsonValue]:
        """Return what decides the training of the encoder; of one on pictures its options do."""
        pictures = "feature" not in self.given
        return {"uses": self.encoder.name} if pictures else describe(self.encoder)

    def _tuning(self, options: Mapping[str, Any]) -> Unlabelled:
        tuning = tuning_of(self.encoder, "pretrain", options)
        if not isinstance(tuning, Unlabelled):
            raise PluginError(f"encoder {self.encoder.name!r}: its 'pretrain' is no Unlabelled")
        return tuning

    def _on_pictures(self, options: Mapping[str, Any]) -> PicturePretraining:
        tuning = self._tuning(options)
        if not isinstance(tuning, PicturePretraining):
            raise PluginError(f"encoder {self.encoder.name!r} is pre-trained on no pictures")
        return tuning

    def measured(self, options: Mapping[str, Any], out: Path) -> dict[str, JsonValue]:
        """Return what is usual among the pictures: a few percentiles of what `job` goes by."""
        from mercore.tuning._sift import COLUMNS

        table = self._sieve(out, self._on_pictures(options).detector).measured()
        usual: dict[str, JsonValue] = {}
        for name, column in zip(COLUMNS, table.T, strict=True):
            if (known := column[~np.isnan(column)]).any():  # 0 where nothing is measured
                found = np.percentile(known, PERCENTILES).round(2).tolist()
                usual[name] = dict(zip(map(str, PERCENTILES), found, strict=True))
        missing = np.isnan(table).sum(axis=0)
        return {
            "pictures": len(table),
            "unreadable": int(missing[0]),
            "without_a_face": int(missing[-1] - missing[0]),
            **usual,
        }

    def _sieve(self, out: Path, detector: str | None) -> Sieve:
        """Return what measures the pictures, into a file of the folder `out`."""
        from mercore.tuning._sift import Sieve

        name = "-".join(filter(None, ("pictures", detector, self._fingerprint[:12])))
        return Sieve(
            self.source,
            _medium(self.encoder),
            out / f"{name}.npy",
            self.machine.threads,
            self.watch,
            self._detector(detector) if detector else None,
        )

    def _detector(self, name: str) -> Detector:
        component = Plugins().build(Preprocessor, name, {})
        medium = _medium(component)
        find = component.load(self.machine.chosen_device(), "float32")

        def detector(frames: Frames) -> Mapping[str, Any]:
            (found,) = find([{medium: frames}])
            return found.record if isinstance(found, Noted) else {}

        return detector

    def _parts(self, tuning: Unlabelled, out: Path, seed: int) -> tuple[Part, Part, dict[str, int]]:
        from mercore.tuning._data import Chosen
        from mercore.tuning._job import Part
        from mercore.tuning._pictures import parted

        rows, counts = np.arange(len(self.source)), dict[str, int]()
        if isinstance(tuning, PicturePretraining) and tuning.demands:
            rows, counts = self._sieve(out, tuning.detector).kept(tuning)
        if len(rows) < 2:
            why = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise RunError(
                f"{len(rows)} of {len(self.source)} samples are left to train on; expected two or "
                f"more{f' (left out: {why})' if why else ''}"
            )
        train, valid = (
            Part(Chosen(self.source, rows[part]), np.zeros(len(part), np.int64))
            for part in parted(len(rows), tuning.held_out, seed)
        )
        return train, valid, counts

    @cached_property
    def _fingerprint(self) -> str:
        """Return the SHA-256 of the names of all samples."""
        digest = hashlib.sha256()
        for row in range(len(self.source)):
            digest.update(self.source.name(row).encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


def pretrain(
    pretraining: Pretraining, options: Mapping[str, Any], out: str | Path, *, seed: int = 0
) -> dict[str, JsonValue]:
    """Return what a pre-training came to; one that was interrupted goes on.

    ``with`` are the options by which the encoder reads what was trained.
    """
    job = pretraining.job(options, out, seed=seed)
    scores = job.run()
    trained = job.tuning.trained(job.encoder, job.folder.checkpoint)
    given: dict[str, JsonValue] = trained.model_dump(mode="json", exclude_unset=True)
    return {"uses": job.encoder.name, "with": given, **scores}


def _medium(component: MediaComponent) -> str:
    """Return what the component calls its pictures."""
    found = [name for name, spec in component.needs().items() if isinstance(spec, Video)]
    if len(found) != 1:
        raise PluginError(f"{component.name!r} reads no pictures; expected a component that does")
    return found[0]
