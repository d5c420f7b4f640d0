"""Rooms: impulse responses from files or made up, and audio as it is heard in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue
from scipy.signal import fftconvolve

from mercore.errors import PluginError
from mercore.media import FloatArray
from mercore_noise._sounds import RATE, Sounds, rms
from mercore_noise.add_noise import SIMULATED

_SMALLEST, _LARGEST = (3.0, 3.0, 2.4), (7.0, 6.0, 3.5)  # metres
_DECAY = (0.2, 0.5)  # seconds until the sound has fallen by 60 dB: homes and offices
_FROM_WALL = 0.5  # metres


@dataclass(frozen=True)
class Room:
    """How a place sounds."""

    response: FloatArray
    """``(samples,)``, the impulse response at 16 kHz."""
    about: JsonValue
    """The file's name, or what was drawn."""


Rooms = Callable[[np.random.Generator], Room]
"""Draw a room."""


def rooms_of(where: str) -> Rooms:
    """Return the rooms of a folder, or made-up ones; PluginError where their package is missing."""
    if where != SIMULATED:
        return _Recorded(Sounds(where, "rooms"))
    try:
        import pyroomacoustics
    except ImportError as error:
        raise PluginError(
            f'rooms: {SIMULATED} needs pyroomacoustics; run `pip install "mercore-noise[rooms]"`'
        ) from error
    # The order of the sums, and so the last bits, depend on the number of threads.
    pyroomacoustics.constants.set("num_threads", 1)
    return simulated


@dataclass(frozen=True)
class _Recorded:
    sounds: Sounds

    def __call__(self, draws: np.random.Generator) -> Room:
        found = self.sounds.whole(draws, channel=0)
        return Room(found.samples, found.files[0])


def simulated(draws: np.random.Generator) -> Room:
    """Return a rectangular room with a source and a listener drawn in it, by image sources."""
    import pyroomacoustics

    size = np.round(draws.uniform(_SMALLEST, _LARGEST), 2)
    decay = round(float(draws.uniform(*_DECAY)), 3)
    absorption, order = pyroomacoustics.inverse_sabine(decay, size)
    room = pyroomacoustics.ShoeBox(
        size, fs=RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    room.add_source(draws.uniform(_FROM_WALL, size - _FROM_WALL))
    room.add_microphone(draws.uniform(_FROM_WALL, size - _FROM_WALL))
    room.compute_rir()
    return Room(np.asarray(room.rir[0][0], np.float32), {"size": size.tolist(), "rt60": decay})


def reverberated(samples: FloatArray, response: FloatArray) -> FloatArray:
    """Return the audio as heard in the room: as long, as loud, and not later.

    The direct path, the largest tap of the response, has no delay; the mean power stays.
    """
    direct = int(np.abs(response).argmax())
    whole = fftconvolve(samples.astype(np.float64), response.astype(np.float64))
    heard = whole[direct : direct + len(samples)]
    after = rms(heard)
    scaled: FloatArray = (heard * (rms(samples) / after if after else 1.0)).astype(np.float32)
    return scaled
