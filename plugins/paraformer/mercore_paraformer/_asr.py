"""The function of ``paraformer``: audio, features, scores, tokens, text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import torch

from mercore.backends import only_float32
from mercore.components import Inputs, Noted
from mercore.errors import RegistryError, RunError
from mercore.inputs import audio_of
from mercore.media import FloatArray, Media
from mercore.nn import device_of, dtype_of
from mercore_paraformer._decoder import decoder_of
from mercore_paraformer._features import RATE
from mercore_paraformer._hotwords import segments_in, spelt
from mercore_paraformer._published import SEGMENTS, Published, published
from mercore_paraformer._readings import Heard, noted
from mercore_paraformer.asr import Paraformer
from mercore_paraformer.hypotheses import Hypothesis

FRAMES: Final = 1000
"""How many frames are computed at once, padding included: a minute of audio."""
QUIET: Final = RATE // 10
"""Samples among whose like the quietest is looked for: 0.1 s."""
SHORTEST: Final = RATE // 40
"""Samples of one frame: 25 ms."""
NOTHING: Final = Hypothesis(tokens=(), score=0.0, acoustic=0.0)


class Score(Protocol):
    """Scores features: ``(frames, size)`` each, to ``(positions, vocabulary)``."""

    @property
    def alike(self) -> float:
        """Clips go together that have at least this share of the length of the longest one."""

    def __call__(self, features: Sequence[torch.Tensor], /) -> list[FloatArray]: ...


class Transcriber:
    """The function ``Paraformer.load`` returns."""

    def __init__(self, options: Paraformer, device: str, dtype: str) -> None:
        self._longest = int(options.longest * RATE)
        found, self._score = _opened(options, device, dtype)
        self._features, self._tokens = found.features, found.tokens
        self._decode = decoder_of(options, found.tokens)
        self._nbest = options.nbest

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        audios = [audio_of(sample, rate=RATE, least=0) for sample in batch]
        clips = [list(pieces(audio, self._longest)) for audio in audios]
        heard = iter(self._heard([piece for clip in clips for piece in clip]))
        return [noted([next(heard) for _ in clip], self._tokens, self._nbest) for clip in clips]

    def _heard(self, audio: Sequence[FloatArray]) -> list[Heard]:
        features = [self._features(piece) for piece in audio]
        found: dict[int, Heard] = {}
        for places in together(list(map(len, features)), self._score.alike):
            scores = self._score([features[place] for place in places])
            for place, own in zip(places, scores, strict=True):
                found[place] = Heard(own, self._decode(own) if len(own) else [NOTHING])
        return [found[place] for place in range(len(audio))]


def _opened(options: Paraformer, device: str, dtype: str) -> tuple[Published, Score]:
    """Return the checkpoint and the function that scores."""
    if options.backend == "onnx":
        from mercore_paraformer._onnx import OnnxNetwork

        only_float32("paraformer", dtype)
        file = "model_quant.onnx" if options.int8 else "model.onnx"
        found = published(options.checkpoint, file)
        return found, OnnxNetwork(found.network, device)
    weights = dtype_of(dtype)
    if device_of(device).type == "cpu" and weights is torch.float16:
        raise RunError("paraformer: dtype 'float16' is for GPUs; use float32 or bfloat16 on a CPU")
    found = published(options.checkpoint, "model.pt")
    hotwords = _hotwords(options, found)
    from mercore_paraformer._funasr import network  # takes seconds to import
    from mercore_paraformer._network import Network

    return found, Network(network(found, device), weights, hotwords)


def _hotwords(options: Paraformer, found: Published) -> list[list[int]]:
    """Return the tokens of the hotwords."""
    if options.hotwords and found.kind != "SeacoParaformer":
        raise RegistryError(
            f"paraformer: hotwords: {found.config} is of a {found.kind}, which does not listen for "
            "them; leave them out, or give a SeACo-Paraformer, such as 'modelscope:iic/"
            "speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch'"
        )
    return spelt(options.hotwords, found.tokens, segments_in(found.files.get(SEGMENTS)))


def pieces(audio: FloatArray, longest: int) -> Iterator[FloatArray]:
    """Yield the audio in pieces of at most `longest` samples, but for what holds no speech.

    They are cut at the quietest 0.1 s of about the last fifth. A piece without a single frame and
    one of zeros hold none.
    """
    count = longest // 5 // QUIET
    while len(audio) > longest:
        first = longest - count * QUIET
        energy = np.square(audio[first:longest]).reshape(count, QUIET).sum(axis=1)
        cut = first + int(energy.argmin()) * QUIET + QUIET // 2
        yield from _speech(audio[:cut])
        audio = audio[cut:]
    yield from _speech(audio)


def _speech(audio: FloatArray) -> Iterator[FloatArray]:
    if len(audio) >= SHORTEST and audio.any():
        yield audio


def together(lengths: Sequence[int], alike: float) -> Iterator[list[int]]:
    """Yield the places of what is computed at once: of like length, the longest first."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = lengths[group[0]] if group else lengths[place]
        full = longest * (len(group) + 1) > FRAMES or lengths[place] < alike * longest
        if group and full:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
