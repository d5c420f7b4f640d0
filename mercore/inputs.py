"""The inputs of a sample as what a component declared them to be."""

from __future__ import annotations

import numpy as np

from mercore.components import Inputs
from mercore.errors import InputError
from mercore.media import FloatArray, Frames, Text, Waveform


def audio_of(
    sample: Inputs, name: str = "audio", *, rate: int | None = None, least: int = 1
) -> FloatArray:
    """Return the ``(samples,)`` float32 of an input, all of them finite.

    Raises InputError for another medium or sampling rate (Hz), and for fewer samples than `least`.
    """
    media = sample[name]
    if not isinstance(media, Waveform):
        raise InputError(f"the input {name!r} holds {type(media).__name__}, expected audio")
    if rate is not None and media.rate != rate:
        raise InputError(f"the input {name!r} has {media.rate} Hz, expected audio at {rate} Hz")
    if len(media.samples) < least:
        time = f" ({1000 * least / media.rate:g} ms)" if least > 1 else ""
        raise InputError(
            f"the input {name!r} has {len(media.samples)} samples, expected {least} or more{time}; "
            "check that the clip has sound"
        )
    if not np.isfinite(media.samples).all():
        raise InputError(
            f"the input {name!r} has samples that are not finite; check how it was made"
        )
    return media.samples


def frames_of(sample: Inputs, name: str = "frames") -> Frames:
    """Return the frames of an input, one or more; raises InputError where there is none."""
    media = sample[name]
    if not isinstance(media, Frames) or not media.pixels.size:
        found = "no frame" if isinstance(media, Frames) else type(media).__name__
        raise InputError(
            f"the input {name!r} holds {found}, expected at least one frame; check the clip and "
            "the stream it is wired to"
        )
    return media


def text_of(sample: Inputs, name: str = "text") -> str:
    """Return the words of an input; raises InputError for another medium."""
    media = sample[name]
    if not isinstance(media, Text):
        raise InputError(f"the input {name!r} holds {type(media).__name__}, expected text")
    return media.content
