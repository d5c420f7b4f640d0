"""A fusion with made-up features whose classes lie apart, fitted once for all who look at it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from mercore.components import Features, Fusion, Labelled, Predict, Weights
from mercore.media import FloatArray
from mercore.metrics import Float64Array

CLASSES = 3
DIMS = {"speech": 5, "face": 9, "text": 3}
SEED = 7


def labelled(
    samples: int, seed: int, classes: Sequence[int] = (0, 1, 2), frames: int | None = None
) -> Labelled:
    """Return samples of the classes, each class near a centre of its own in every feature.

    With `frames`, each is a sequence of 1 to so many frames, NaN after the last.
    """
    centres, noise = np.random.default_rng(0), np.random.default_rng(seed)
    labels = np.resize(np.array(classes, np.int64), samples)
    features = {
        name: 3 * centres.standard_normal((CLASSES, dim))[labels]
        + noise.standard_normal((samples, dim))
        for name, dim in DIMS.items()
    }
    if frames:
        features = {name: _sequences(x, frames, noise) for name, x in features.items()}
    return Labelled({name: x.astype(np.float32) for name, x in features.items()}, labels)


def _sequences(x: Float64Array, frames: int, noise: np.random.Generator) -> Float64Array:
    """Return ``(samples, frames, dim)``: vectors as sequences about them."""
    table = x[:, None] + noise.standard_normal((len(x), frames, x.shape[1]))
    lengths = noise.integers(1, frames + 1, len(x))
    table[np.arange(frames) >= lengths[:, None]] = np.nan
    return table


class FusionSubject:
    """A fusion fitted once for all checks of a suite, when it is first looked at."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion = fusion
        self.train, self.valid, self.test = self.made(90, 1), self.made(30, 2), self.made(30, 3)

    def made(self, samples: int, seed: int, classes: Sequence[int] = (0, 1, 2)) -> Labelled:
        """Return new samples in the form that the fusion reads."""
        return labelled(samples, seed, classes, self.fusion.most_frames)

    @cached_property
    def weights(self) -> Weights:
        """What the fit returned."""
        return self.fit(self.train, self.valid)

    @cached_property
    def predict(self) -> Predict:
        """The function that predicts with those weights."""
        return self.fusion.load(self.weights, "cpu")

    @cached_property
    def table(self) -> FloatArray:
        """The probabilities of the test samples."""
        return self.predict(copied(self.test.features))

    def fit(
        self, train: Labelled, valid: Labelled, seed: int = SEED, device: str = "cpu"
    ) -> Weights:
        """Return the weights fitted on copies."""
        data = [Labelled(copied(part.features), part.labels.copy()) for part in (train, valid)]
        return self.fusion.fit(data[0], data[1], classes=CLASSES, device=device, seed=seed)


def copied(features: Features) -> dict[str, FloatArray]:
    """Return the features in arrays of their own."""
    return {name: x.copy() for name, x in features.items()}
