"""HuBERT on transformers' ``HubertModel``, from any of its published layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mercore.backends import only_float32
from mercore.components import Inputs, Noted, Record
from mercore.inputs import audio_of
from mercore.media import FloatArray
from mercore.nn import OnnxModel, device_of, dtype_of, rows, zscore
from mercore_hubert import Hubert
from mercore_hubert._audio import Convolutions, padded
from mercore_hubert._network import Network, network, run, together
from mercore_hubert._published import RATE, Published, published
from mercore_hubert._windows import exportable, windowed

Pieces = Sequence[FloatArray]
"""Audio ``(samples,)`` each, normalised."""

Encoded = Callable[[Pieces], list[FloatArray]]
"""From pieces to their frames, ``(frames, dim)`` each, in order."""


class HubertEncoder:
    """The function ``Hubert.load`` returns."""

    def __init__(self, options: Hubert, device: str, dtype: str) -> None:
        found = published(options.checkpoint)  # not kept: it holds the file
        self._options = options
        self._normalise = found.normalise
        self._alike = found.config.feat_extract_norm == "group"
        self._convolutions = Convolutions(found.config.conv_kernel, found.config.conv_stride)
        self._record: Record = {}
        encoded = self._exported if options.backend == "onnx" else self._loaded
        self._encoded = encoded(found, device, dtype)

    def _loaded(self, found: Published, device: str, dtype: str) -> Encoded:
        kind = device_of(device).type
        net = network(found, self._options, device=device, dtype=dtype_of(dtype))
        if kind != "cpu":
            return self.batched(net)
        faster = windowed(net.model.feature_extractor, found.config)
        net.model.register_module("feature_extractor", faster)
        # A CPU gains nothing by batches, and padding costs.
        return self.one_by_one(net)

    def one_by_one(self, net: Network) -> Encoded:
        """Return a function that runs each piece alone."""
        return lambda pieces: [
            rows(run(net, [piece], self._frames([piece]))[0]) for piece in pieces
        ]

    def batched(self, net: Network) -> Encoded:
        """Return a function that runs pieces together, padded where that changes nothing.

        Group norms take their statistics over time, with the padding: there only pieces of equal
        length are run together.
        """

        def encoded(pieces: Pieces) -> list[FloatArray]:
            states: dict[int, torch.Tensor] = {}
            for places in together(pieces, alike=self._alike):
                some = [pieces[place] for place in places]
                states.update(zip(places, run(net, some, self._frames(some)), strict=True))
            # Copied when all is under way: a copy waits for the device.
            return [rows(states[place]) for place in range(len(pieces))]

        return encoded

    def _exported(self, found: Published, device: str, dtype: str) -> Encoded:
        only_float32("hubert", dtype)
        model = OnnxModel(
            self._options,
            lambda: self._exportable(found),
            [(self._example(seconds),) for seconds in (1.0, 2.3)],
            {"audio": {1: "samples"}},
            device=device,
            int8=self._options.int8,
        )
        self._record = model.record
        return lambda pieces: [model(piece[np.newaxis])[0] for piece in pieces]

    def _exportable(self, found: Published) -> Network:
        net = network(found, self._options, device="cpu", dtype=torch.float32)
        faster = exportable(net.model.feature_extractor, found.config)
        net.model.register_module("feature_extractor", faster)
        return net

    def _example(self, seconds: float) -> torch.Tensor:
        """Return audio of mean 0 and variance 1: a voice's harmonics, which come and go."""
        times = np.arange(int(seconds * RATE)) / RATE
        voice = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 30))
        noise = np.random.default_rng(0).standard_normal(len(times))
        audio = np.abs(np.sin(2 * np.pi * 2 * times)) * voice + 0.05 * noise
        return torch.from_numpy(zscore(audio.astype(np.float32)))[None]

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        cut = [self._pieces(self._audio(sample)) for sample in batch]
        encoded = iter(self._encoded([piece for pieces in cut for piece in pieces]))
        matrices = [np.concatenate([next(encoded) for _ in pieces]) for pieces in cut]
        if self._options.pool == "mean":
            matrices = [matrix.mean(0, keepdims=True) for matrix in matrices]
        return [Noted(matrix, self._record) if self._record else matrix for matrix in matrices]

    def _audio(self, sample: Inputs) -> FloatArray:
        audio = audio_of(sample, rate=RATE, least=self._convolutions.field)
        return zscore(audio) if self._normalise else audio

    def _pieces(self, audio: FloatArray) -> list[FloatArray]:
        options = self._options
        length = len(audio) if options.chunk is None else round(options.chunk * RATE)
        if len(audio) <= length:
            return [audio]
        if options.pad_chunks:
            return padded(audio, length)
        return self._convolutions.pieces(audio, length)

    def _frames(self, pieces: Pieces) -> list[int]:
        return [self._convolutions.frames(len(piece)) for piece in pieces]
