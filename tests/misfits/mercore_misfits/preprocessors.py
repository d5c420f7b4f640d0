"""A preprocessor that breaks no rule, and others that break one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mercore import Audio, Inputs, Media, Preprocessor, Transform, Waveform
from mercore_misfits.encoders import RATE, samples_of


class Gain(Preprocessor):
    name: ClassVar[str] = "gain"
    inputs: ClassVar = {"audio": Audio(rate=RATE)}
    output: ClassVar = Audio(rate=RATE)
    gain: float = 0.5

    def batch(self, batch: Sequence[Inputs]) -> Sequence[Media]:
        return [Waveform(np.float32(self.gain) * samples_of(inputs), RATE) for inputs in batch]

    def load(self, device: str, dtype: str) -> Transform:
        return self.batch


class WrongRate(Gain):
    name: ClassVar[str] = "wrong_rate"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[Media]:
        return [Waveform(samples_of(inputs)[::2], RATE // 2) for inputs in batch]


class Stereo(Gain):
    name: ClassVar[str] = "stereo"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[Media]:
        return [Waveform(np.stack([samples_of(i)] * 2, axis=1), RATE) for i in batch]


class Sorts(Gain):
    name: ClassVar[str] = "sorts"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[Media]:
        return super().batch(sorted(batch, key=lambda inputs: len(samples_of(inputs))))
