"""What every component that reads audio asks of a sample."""

from __future__ import annotations

import numpy as np

from mercore.components import Inputs
from mercore.errors import InputError
from mercore.media import FloatArray, Waveform

RATE = 16_000


def samples_of(sample: Inputs, *, least: int = 1) -> FloatArray:
    """Return the samples of the input ``audio``: finite, at 16 kHz, at least `least` of them."""
    audio = sample["audio"]
    if not isinstance(audio, Waveform) or audio.rate != RATE:
        raise InputError(f"the input 'audio' holds {audio!r}, expected audio at {RATE} Hz")
    if len(audio.samples) < least:
        raise InputError(
            f"the audio has {len(audio.samples)} samples, expected {least} or more; check that "
            "the clip has sound"
        )
    if not np.isfinite(audio.samples).all():
        raise InputError("the audio has samples that are not finite; check how it was made")
    return audio.samples
