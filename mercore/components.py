"""The four kinds of component and the types they exchange.

A component *is* its configuration: a frozen pydantic model whose fields are the options under
``with:`` in registry.yaml. Building one is cheap and loads nothing. ``load`` returns a function
that holds the weights; dropping that function frees them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue

from mercore.media import FloatArray, Media, Spec

if TYPE_CHECKING:
    from mercore.tuning import Training

IntArray = NDArray[np.int64]
Record = Mapping[str, JsonValue]
"""What a component notes about one sample beside its output: a score, a decision, a warning."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Noted(Generic[T_co]):
    """An output together with the record of its sample."""

    value: T_co
    record: Record = field(default_factory=dict)


Inputs = Mapping[str, Media]
"""The media of one sample by input name."""

Transform = Callable[[Sequence[Inputs]], Sequence[Media | Noted[Media]]]
"""Derive one medium a sample, in order."""

Encode = Callable[[Sequence[Inputs]], Sequence[FloatArray | Noted[FloatArray]]]
"""Turn each sample into one ``(frames, dim)`` float32 matrix, in order."""

Features = Mapping[str, FloatArray]
"""Feature name to ``(samples, dim)`` float32, all in the same sample order."""

Weights = Mapping[str, NDArray[np.generic]]
"""Named arrays of a fitted fusion, as stored in a safetensors file."""

Predict = Callable[[Features], FloatArray]
"""Return ``(samples, classes)`` float32 class probabilities; each row sums to 1."""


@dataclass(frozen=True)
class Labelled:
    """Samples with known classes: what a fusion is fitted on."""

    features: Features
    labels: IntArray
    """``(samples,)`` class indices."""

    def at(self, rows: IntArray) -> Labelled:
        """Return the samples of `rows`, indices, in their order."""
        chosen = {name: matrix[rows] for name, matrix in self.features.items()}
        return Labelled(chosen, self.labels[rows])


@dataclass(frozen=True, eq=False)
class Part:
    """One of several fits on the same samples, such as a fold of a cross-validation."""

    train: IntArray
    """The samples to fit on, as indices."""
    valid: IntArray
    """The samples to choose the best state on, as indices; may be none."""
    seed: int
    start: Weights | None = None
    """Weights to go on from, of an earlier fit on fewer samples; only for ``Fusion.resumes``."""


@dataclass(frozen=True)
class Votes:
    """The branches' predictions of the same samples."""

    names: tuple[str, ...]
    """The branches; decides between equal scores, so that the order never matters."""
    probabilities: FloatArray
    """``(branches, samples, classes)``, rows sum to 1."""
    scores: FloatArray
    """``(branches,)`` validation WAF in [0, 1]; higher is better."""
    labels: IntArray | None = None
    """``(samples,)``: the classes of training samples, whose votes are out of fold, -1 elsewhere;
    None where there are none, as when an ensemble does not learn."""


@dataclass(frozen=True)
class Decision:
    """What an ensemble decides."""

    labels: IntArray
    """``(samples,)`` class indices."""
    probabilities: FloatArray
    """``(samples, classes)`` float32, rows sum to 1."""
    support: FloatArray
    """``(samples,)`` share of the branches whose label is the decided one, in [0, 1]."""


class Component(BaseModel, ABC):
    """Base of the four kinds; its fields are the options of ``with:``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """The name used in registry.yaml: ``[a-z][a-z0-9_]*``."""
    revision: ClassVar[int] = 1
    """Raise it when the code gives other numbers than before, so that they are computed anew."""
    licence: ClassVar[str] = ""
    """Of the weights it uses by default, or of the program it runs: an SPDX id, or words."""
    citation: ClassVar[str] = ""
    """What to cite when it is used: BibTeX entries, which may be indented as a docstring is."""
    example: ClassVar[Mapping[str, JsonValue]] = {}
    """Options to show in an example, as registry.yaml has them, where it cannot do without some."""

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what decides the numbers beside the options, such as a hash of the checkpoint.

        A key that is also an option replaces that option in the fingerprint: returning
        ``{"checkpoint": <hash>}`` makes features independent of where the checkpoint lies.
        """
        return {}

    def checkpoints(self) -> Sequence[str | Path]:
        """Return the weights that it loads: hub ids or paths; a ``Path`` lies inside a package.

        So one can say whether they are here without loading anything. By default it is the option
        `checkpoint`, where there is one. Raises CheckpointError for a package that is missing.
        """
        checkpoint = getattr(self, "checkpoint", None)
        return [checkpoint] if isinstance(checkpoint, str) else []


class MediaComponent(Component):
    """A component that reads media: a preprocessor or an encoder."""

    inputs: ClassVar[Mapping[str, Spec]]
    """What it reads, by input name; the core decodes, resamples and samples frames."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """Input names that may be left unwired in registry.yaml."""
    budget: ClassVar[float] = 1.0
    """How much one batch may hold; 1.0 is a minute of audio, 256 frames of 224 x 224 pixels (or as
    many pixels), or 8,192 characters."""
    tunings: ClassVar[Mapping[str, type[Training]]] = {}
    """How it can be trained: options by aim, ``pretrain`` or ``tune``; see ``mercore.tuning``."""

    def needs(self) -> Mapping[str, Spec]:
        """Return the inputs of this instance; override it when they depend on options."""
        return self.inputs

    @abstractmethod
    def load(self, device: str, dtype: str) -> Callable[[Sequence[Inputs]], Sequence[object]]:
        """Return the function that does the work, with its weights on `device` as `dtype`.

        The function is called by one thread at a time, which may be another than loaded it; those
        of two loads may run at once. Raises RunError for a device or a dtype that cannot be used.
        """


class Preprocessor(MediaComponent):
    """Derives a stream from streams."""

    output: ClassVar[Spec]
    """The kind of stream it derives: ``Audio(rate=...)``, ``Video()`` or ``Words()``."""

    @abstractmethod
    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that derives the stream, with its weights on `device`.

        The function gets a batch of samples and returns one medium (or ``Noted`` medium) each, in
        order. It raises ``InputError`` when a sample cannot be used: the batch is then run one
        by one, and only the bad sample is recorded as failed.
        """


class Encoder(MediaComponent):
    """Turns media into features."""

    @property
    def dim(self) -> int | None:
        """The width of the feature, where it is known before the weights are loaded."""
        return None

    @property
    def frame_rate(self) -> float | None:
        """Frames a second (Hz) of the output, or None where they are not evenly spaced."""
        return None

    @abstractmethod
    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes, with its weights on `device` as `dtype`.

        The function gets a batch of samples and returns one finite float32 ``(frames, dim)``
        matrix (or ``Noted`` matrix) each, in order; the result must not depend on the batch.
        It raises ``InputError`` when a sample cannot be used, as for a preprocessor.
        """


@dataclass(frozen=True)
class Range:
    """Numbers that an option may be searched among."""

    low: float
    high: float
    log: bool = False
    """Whether each power of ten is as likely as the next."""


Space = Mapping[str, Range | tuple[JsonValue, ...]]
"""Option to the range it is drawn from, or to the values it is chosen among."""


class Fusion(Component):
    """Learns class probabilities from a combination of features."""

    resumes: ClassVar[bool] = False
    """Whether ``fit_all`` goes on from ``Part.start``."""

    @property
    def most_frames(self) -> int | None:
        """The most frames of a sample that it reads; None, the default: vectors over all frames.

        With a number N every feature is ``(samples, N, dim)``: the sequence of a sample, shortened
        to N frames by averaging neighbours where it is longer; where it is shorter, rows of NaN
        follow its last frame. A sample has one frame at least.
        """
        return None

    @property
    def masks_missing(self) -> bool:
        """Whether it takes NaN, in every dimension, for a feature that a sample lacks.

        If not, which is the default, samples that lack a feature are not trained on, and the mean
        of the training samples stands in its place in a prediction.
        """
        return False

    @property
    def space(self) -> Space:
        """The options that `mer train --search` draws, and from what; none by default."""
        return {}

    @abstractmethod
    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        """Return weights fitted on `train`; the best state is chosen on `valid`.

        The same data and seed give the same weights. Not every class need occur in `train`.
        """

    def fit_all(
        self, data: Labelled, parts: Sequence[Part], *, classes: int, device: str
    ) -> list[Weights]:
        """Return the weights of each part: those that ``fit`` gives it alone, but for rounding.

        Override it where several fits together are faster than one after the other.
        """
        return [
            self.fit(
                data.at(part.train),
                data.at(part.valid),
                classes=classes,
                device=device,
                seed=part.seed,
            )
            for part in parts
        ]

    @abstractmethod
    def load(self, weights: Weights, device: str) -> Predict:
        """Return the function that predicts with `weights`, as ``fit`` returned them."""


class Ensemble(Component):
    """Turns the predictions of the branches into one decision a sample."""

    learns: ClassVar[bool] = False
    """Whether it learns from training samples, which are then always among the votes."""

    @abstractmethod
    def decide(self, votes: Votes) -> Decision:
        """Return the decision; it must not depend on the order of the branches."""
