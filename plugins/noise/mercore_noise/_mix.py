"""Adds what was drawn for a sample at the level that was drawn for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from mercore.components import Inputs, Noted
from mercore.inputs import audio_of
from mercore.media import FloatArray, Media, Waveform
from mercore_noise._draws import draws_for
from mercore_noise._rooms import reverberated, rooms_of
from mercore_noise._sounds import RATE, SILENT, Sounds, rms
from mercore_noise.add_noise import AddNoise

Mixed = tuple[FloatArray, dict[str, JsonValue]]


class NoiseAdder:
    """The function ``AddNoise.load`` returns."""

    def __init__(self, options: AddNoise) -> None:
        self._options = options
        self._ratios = {"noise": options.snr, "voices": options.voices_snr}
        folders = {"noise": options.noise, "voices": options.voices}
        self._sounds = {
            name: Sounds(folder, name) for name, folder in folders.items() if folder is not None
        }
        self._rooms = rooms_of(options.rooms) if options.rooms else None

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Inputs) -> Noted[Media]:
        clean = audio_of(sample, rate=RATE)
        draws = draws_for(sample, self._options.name, self._options.seed)
        condition = self.condition(draws.random())
        if rms(clean) < SILENT:
            return Noted(Waveform(clean, RATE), {"condition": "clean", "silent": True})
        mixed, record = self._mixed(condition, clean, draws)
        peak = float(np.abs(mixed).max())
        if peak > 1.0:
            mixed = mixed / np.float32(peak)
            record["scale"] = round(1.0 / peak, 4)
        return Noted(Waveform(mixed, RATE), {"condition": condition, **record})

    def condition(self, drawn: float) -> str:
        """Return the condition at `drawn`, in [0, 1), of the way through the shares."""
        shares = self._options.shares()
        ends = np.cumsum(list(shares.values()))
        return list(shares)[int(np.searchsorted(ends, drawn * ends[-1], side="right"))]

    def _mixed(self, condition: str, clean: FloatArray, draws: np.random.Generator) -> Mixed:
        if condition == "clean":
            return clean, {}
        if condition == "rooms":
            return self._in_room(clean, draws)
        # To two digits, so that the record says all of it.
        snr = round(float(draws.uniform(*self._ratios[condition])), 2)
        piece = self._sounds[condition].piece(len(clean), draws)
        files: list[JsonValue] = list(piece.files)
        record: dict[str, JsonValue] = {"snr": snr, "files": files, "offset": piece.offset}
        added = piece.samples
        if condition == "voices" and self._rooms is not None:
            added, room = self._in_room(added, draws)
            record |= room
        return at_ratio(clean, added, snr), record

    def _in_room(self, samples: FloatArray, draws: np.random.Generator) -> Mixed:
        assert self._rooms is not None  # the options were checked
        room = self._rooms(draws)
        return reverberated(samples, room.response), {"room": room.about}


def at_ratio(clean: FloatArray, added: FloatArray, snr: float) -> FloatArray:
    """Return the sum in which ``20 log10(rms(clean) / rms(what is added))`` is `snr`."""
    gain = rms(clean) / (rms(added) * 10 ** (snr / 20))
    return clean + np.float32(gain) * added
