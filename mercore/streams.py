"""How derived media lie in the store: one ragged array a stream.

Audio is kept as 16-bit samples, text as UTF-8 bytes, frames as RGB uint8 with their times in the
sample's record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore.components import Record
from mercore.errors import InputError
from mercore.media import (
    FULL_SCALE,
    Audio,
    Frames,
    Media,
    Spec,
    Text,
    Video,
    Waveform,
    Words,
    as_int16,
)

_TYPES: dict[type[Spec], type[Media]] = {Audio: Waveform, Video: Frames, Words: Text}


def medium_name(spec: Spec) -> str:
    """Return ``audio``, ``video`` or ``words``."""
    return type(spec).__name__.lower()


def pack(media: object, spec: Spec) -> tuple[NDArray[Any], dict[str, JsonValue]]:
    """Return the array to store and what the record must hold to read it back.

    Raises InputError when the medium is not of the kind that `spec` declares or is not finite.
    """
    if not isinstance(media, _TYPES[type(spec)]):
        found = type(media).__name__
        raise InputError(f"returned {found}, expected {_TYPES[type(spec)].__name__}")
    if isinstance(media, Waveform):
        return _pack_audio(media, spec)
    if isinstance(media, Frames):
        return media.pixels, {"times": _times(media)}
    assert isinstance(media, Text)
    return np.frombuffer(media.content.encode(), dtype=np.uint8), {}


def _times(media: Frames) -> list[JsonValue]:
    pixels = media.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
        found = f"{pixels.dtype} {pixels.shape}"
        raise InputError(f"returned pixels {found}, expected uint8 (frames, height, width, 3)")
    if len(media.times) != len(pixels):
        raise InputError(f"returned {len(pixels)} frames with {len(media.times)} times")
    return [round(float(time), 4) for time in media.times]


def _pack_audio(media: Waveform, spec: Spec) -> tuple[NDArray[Any], dict[str, JsonValue]]:
    assert isinstance(spec, Audio)
    if media.rate != spec.rate:
        raise InputError(f"returned audio at {media.rate} Hz, declared {spec.rate} Hz")
    if not np.isfinite(media.samples).all():
        raise InputError("returned audio with NaN or infinite samples")
    return as_int16(media.samples), {}


def unpack(array: NDArray[Any], record: Record, spec: Spec) -> Media:
    """Return the medium that ``pack`` stored; `spec` is the one it was stored with."""
    if isinstance(spec, Audio):
        return Waveform(array.astype(np.float32) / np.float32(FULL_SCALE), spec.rate)
    if isinstance(spec, Video):
        return Frames(array, np.array(record["times"], dtype=np.float64))
    return Text(array.tobytes().decode())
