"""Separates noisy audio by MossFormer2 and chooses between the two recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import soxr
import torch

from mercore.components import Inputs, Noted, Record
from mercore.denoising import ORIGINAL, Chooser, Separated, noisy_audio, template_of
from mercore.errors import RunError
from mercore.media import FloatArray, Media
from mercore.nn import device_of, dtype_of, moved, rows
from mercore_mossformer2 import MossFormer2
from mercore_mossformer2._network import MossFormer2 as Network
from mercore_mossformer2._published import Published, published
from mercore_mossformer2._windows import in_windows

LEVEL: Final = 10 ** (-25 / 20)
"""The root mean square of the audio that the network reads: -25 dB, as clearvoice has it."""
NAMES: Final = ("first", "second")


class Separator:
    """The function ``MossFormer2.load`` returns."""

    def __init__(self, options: MossFormer2, device: str, dtype: str) -> None:
        found = published(options.checkpoint, options.rate)
        self._options = options
        self._rate = found.rate
        self._network = network(found, device, dtype)
        self._choose = Chooser(options, device, dtype)

    def __call__(self, batch: Sequence[Inputs]) -> list[Noted[Media]]:
        """Return the chosen audio of each sample, in order."""
        chosen = self._choose([self.separated(sample) for sample in batch])
        return [Noted(noted.value, self.banded(noted.record)) for noted in chosen]

    def separated(self, sample: Inputs) -> Separated:
        noisy = noisy_audio(sample)
        mixed = soxr.resample(noisy.samples, noisy.rate, self._rate, quality="VHQ")
        sources, record = self.separate(mixed)
        fitted = [
            at_its_level(
                _fitted(soxr.resample(s, self._rate, noisy.rate, quality="VHQ"), noisy.samples),
                noisy.samples,
            )
            for s in sources
        ]
        named = dict(zip(NAMES, fitted, strict=True))
        return Separated(noisy, named, template_of(sample), record)

    def separate(self, mixed: FloatArray) -> tuple[FloatArray, Record]:
        """Return two recordings ``(2, samples)`` of audio at the network's rate, and a record."""
        loudness = np.sqrt(np.square(mixed, dtype=np.float64).mean()) if len(mixed) else 0.0
        if not loudness:
            return np.zeros((2, len(mixed)), np.float32), {"windows": 0}
        scaled = (mixed * (LEVEL / loudness)).astype(np.float32)
        window, overlap = (
            round(seconds * self._rate) for seconds in (self._options.window, self._options.overlap)
        )
        joined = in_windows(self._run, scaled, window, overlap)
        record: Record = {"windows": joined.windows}
        if joined.windows > 1:
            record = {**record, "alignment": round(joined.sureness, 4)}
        return joined.sources, record

    def _run(self, audio: FloatArray) -> FloatArray:
        coder = self._network.encoder
        short = max(0, coder.shape[1] - len(audio))  # below a frame
        given = moved(np.pad(audio, (0, short)), str(coder.device)).to(coder.dtype)
        with torch.inference_mode():
            return rows(self._network(given))[:, : len(audio)]

    def banded(self, record: Record) -> Record:
        """Return the record with the frequencies that the chosen audio can hold."""
        kept = record["decision"] == ORIGINAL
        rate = self._options.output.rate if kept else min(self._rate, self._options.output.rate)
        return {**record, "band": [0, rate // 2]}


def network(found: Published, device: str, dtype: str) -> Network:
    """Return the network on `device`; angles stay in float32 whatever `dtype` is.

    Raises RunError for a device that is not there, and for float16.
    """
    kind, place = dtype_of(dtype), device_of(device)
    if kind == torch.float16:
        raise RunError(
            "mossformer2: dtype 'float16' is too narrow for its sums over a whole clip; use "
            "'bfloat16' or 'float32'"
        )
    own = Network(found.weights, found.blocks).eval()
    for name, buffer in own.named_buffers():
        if not name.endswith("turns"):
            buffer.data = buffer.data.to(kind)
    return own.to(place)


def _fitted(samples: FloatArray, like: FloatArray) -> FloatArray:
    """Return the samples, as many as there are in `like`: resampling there and back may differ."""
    fitted = np.zeros_like(like)
    fitted[: len(samples)] = samples[: len(like)]
    return fitted


def at_its_level(source: FloatArray, noisy: FloatArray) -> FloatArray:
    """Return the recording times the gain that brings it nearest to the noisy audio.

    A recording that is in the noisy audio, beside others unlike it, gets the level it has there.
    """
    exact = source.astype(np.float64)
    energy = exact @ exact
    gain = (exact @ noisy.astype(np.float64)) / energy if energy else 0.0
    return (gain * exact).astype(np.float32)
