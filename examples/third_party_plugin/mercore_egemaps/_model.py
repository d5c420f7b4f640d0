"""What egemaps computes; imported when it is loaded, since openSMILE brings pandas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mercore import Inputs, audio_of
from mercore.media import FloatArray
from opensmile import FeatureLevel, FeatureSet, Smile

from mercore_egemaps import RATE, EgemapsEncoder

LEVELS = {
    "functionals": FeatureLevel.Functionals,
    "descriptors": FeatureLevel.LowLevelDescriptors,
}
SHORTEST = 960  # samples: the window of the pitch, below which openSMILE gives NaN


class Model:
    """The function that encodes a batch, with the options of one component."""

    def __init__(self, options: EgemapsEncoder) -> None:
        self.window = options.window
        self.smile = Smile(FeatureSet.eGeMAPSv02, LEVELS[options.level])

    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        """Return one ``(frames, dim)`` float32 matrix a sample, in order."""
        return [self.described(audio_of(sample, rate=RATE, least=SHORTEST)) for sample in batch]

    def described(self, samples: FloatArray) -> FloatArray:
        """Return the ``(frames, dim)`` rows of one sample."""
        tables = [self.smile.process_signal(part, RATE) for part in parts(samples, self.window)]
        return np.concatenate([table.to_numpy(np.float32) for table in tables])


def parts(samples: FloatArray, window: float | None) -> list[FloatArray]:
    """Return the windows of the audio, one or more; the last takes what is left over."""
    if window is None:
        return [samples]
    length = round(window * RATE)
    count = max(1, len(samples) // length)
    return np.split(samples, [length * n for n in range(1, count)])
