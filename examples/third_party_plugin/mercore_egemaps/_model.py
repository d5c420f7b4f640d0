"""What egemaps computes; imported when it is loaded, since openSMILE brings pandas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mercore import InputError, Inputs, Waveform
from mercore.media import FloatArray
from opensmile import FeatureLevel, FeatureSet, Smile

from mercore_egemaps import EgemapsEncoder

LEVELS = {
    "functionals": FeatureLevel.Functionals,
    "descriptors": FeatureLevel.LowLevelDescriptors,
}
SHORTEST = 0.06  # seconds: the window of the pitch, below which openSMILE gives NaN


class Model:
    """The function that encodes a batch, with the options of one component."""

    def __init__(self, options: EgemapsEncoder) -> None:
        self.window = options.window
        self.smile = Smile(FeatureSet.eGeMAPSv02, LEVELS[options.level])

    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        """Return one ``(frames, dim)`` float32 matrix a sample, in order."""
        return [self.described(sample["audio"]) for sample in batch]

    def described(self, audio: object) -> FloatArray:
        """Return the rows of one sample; raises InputError where there is too little audio."""
        if not isinstance(audio, Waveform):
            raise InputError("there is no audio")
        if audio.seconds < SHORTEST:
            raise InputError(f"{audio.seconds:.3f} s of audio, expected {SHORTEST} s or more")
        rows = [self.rows(part, audio.rate) for part in parts(audio, self.window)]
        return np.concatenate(rows)  # (frames, dim)

    def rows(self, samples: FloatArray, rate: int) -> FloatArray:
        """Return what openSMILE makes of one stretch of audio: ``(frames, dim)``."""
        rows: FloatArray = self.smile.process_signal(samples, rate).to_numpy(np.float32)
        return rows


def parts(audio: Waveform, window: float | None) -> list[FloatArray]:
    """Return the windows of the audio, one or more; the last takes what is left over."""
    if window is None:
        return [audio.samples]
    length = round(window * audio.rate)
    count = max(1, len(audio.samples) // length)
    return np.split(audio.samples, [length * n for n in range(1, count)])
