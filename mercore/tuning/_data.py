"""Samples as examples: read, drawn in an order that repeats, and put into batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from mercore.components import Inputs, IntArray
from mercore.errors import InputError, RunError
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.reader import Reader
from mercore.tuning._trainee import Example, Trainee
from mercore.tuning._trunk import Kept

UNKNOWN = -1
"""The class of an example that does not count."""
_TRAINING, _EVALUATION = 0, 1  # their random numbers differ


class Source(Protocol):
    """Media by position; a sample that cannot be read raises InputError."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Inputs: ...

    def name(self, row: int) -> str:
        """Return what a sample is called in messages."""
        ...


@dataclass(frozen=True)
class Samples:
    """The media of a manifest's samples."""

    reader: Reader
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> Inputs:
        return self.reader.inputs(self.samples[row])

    def name(self, row: int) -> str:
        """Return the id of the sample."""
        return self.samples[row].id


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of what a source holds."""

    source: Source
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Inputs:
        return self.source[int(self.rows[row])]

    def name(self, row: int) -> str:
        """Return what the source calls it."""
        return self.source.name(int(self.rows[row]))


class Examples(Dataset[tuple[Example, int]]):
    """The examples of a source, with their classes; of `kept`, where a trunk has run before.

    Where a sample cannot be read, its neighbour stands in its place, in an evaluation without a
    class; the reason is added to the file `failures`, which several processes may write.
    """

    def __init__(
        self,
        source: Source,
        labels: IntArray,
        trainee: Trainee,
        *,
        seed: int,
        failures: Path,
        training: bool,
        kept: Kept | None = None,
    ) -> None:
        self._source = source
        self._labels = labels
        self._trainee = trainee
        self._seed = seed
        self._failures = failures
        self._training = training
        self._kept = kept
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> tuple[Example, int]:
        for step in range(len(self)):
            at = (row + step) % len(self)
            try:
                example = self._example(row, at)
            except InputError as error:
                self._note(at, error)
                continue
            counts = self._training or step == 0
            return example, int(self._labels[at]) if counts else UNKNOWN
        raise RunError(f"none of the {len(self)} samples can be read; see {self._failures}")

    def _example(self, row: int, at: int) -> Example:
        drawn = (_TRAINING, self.epoch) if self._training else (_EVALUATION, 0)
        random = np.random.default_rng((self._seed, *drawn, row))
        if self._kept is not None:
            rows = self._kept[self._source.name(at)]
            return self._trainee.from_trunk(rows, random, training=self._training)
        return self._trainee.example(self._source[at], random, training=self._training)

    def _note(self, at: int, error: InputError) -> None:
        with self._failures.open("a", encoding="utf-8") as file:  # one write: lines stay whole
            file.write(reason_line(self._source.name(at), str(error)))


def reason_line(sample: str, reason: str) -> str:
    """Return the line that says of a sample why it could not be read, or was left out."""
    return json.dumps({"sample": sample, "reason": reason}) + "\n"


def reasons(file: Path) -> dict[str, str]:
    """Return the samples in such lines with their reasons; none where there is no file."""
    if not file.exists():
        return {}
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {row["sample"]: row["reason"] for row in rows}


class Order(Sampler[int]):
    """The order of the training samples: another each epoch, the same in each run.

    With `weights`, ``(samples,)``, as many samples are drawn with replacement.
    """

    def __init__(self, dataset: Examples, seed: int, weights: FloatArray | None = None) -> None:
        self._dataset = dataset
        self._seed = seed
        self._shares = None if weights is None else weights / weights.sum()

    def set_epoch(self, epoch: int) -> None:
        """Take note of the epoch, for the dataset too."""
        self._dataset.epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[int]:
        random, count = np.random.default_rng((self._seed, self._dataset.epoch)), len(self)
        drawn = random.choice(count, count, replace=self._shares is not None, p=self._shares)
        yield from drawn.tolist()


def balance(labels: IntArray, classes: int) -> FloatArray:
    """Return ``(classes,)``: how much rarer a class is than on average; 0 for one without samples.

    King and Zeng, "Logistic regression in rare events data", Political Analysis 9, 2001: the
    weights that scikit-learn calls balanced.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float32)
    weights: FloatArray = np.zeros_like(counts)
    np.divide(len(labels), np.count_nonzero(counts) * counts, out=weights, where=counts > 0)
    return weights


@dataclass(frozen=True)
class Collate:
    """Puts examples into a batch, with their classes as ``labels``."""

    trainee: Trainee

    def __call__(self, examples: Sequence[tuple[Example, int]]) -> dict[str, Any]:
        labels = torch.tensor([label for _, label in examples])
        return {"labels": labels, **self.trainee.batch([example for example, _ in examples])}
