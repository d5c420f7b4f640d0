"""FunASR itself: its ``AutoModel.generate``, and the scores that it decides by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mercore.components import Inputs, Noted
from mercore.media import FloatArray, Text, Waveform
from mercore_paraformer._funasr import undisturbed

RATE = 16_000


@dataclass(frozen=True, eq=False)
class Expected:
    """What FunASR makes of a clip."""

    text: str
    scores: FloatArray
    """``(positions, vocabulary)`` log-probabilities."""


def auto_model(folder: Path, **settings: Any) -> Any:
    """Return FunASR's model without dither, which would make its text another each time."""
    quiet = {"disable_update": True, "check_latest": False, "disable_pbar": True, "ncpu": 1}
    exact = {"frontend_conf": {"dither": 0.0}}
    with undisturbed():
        from funasr import AutoModel

        return AutoModel(model=str(folder), device="cpu", **quiet, **exact, **settings)


@cache
def _watched(folder: Path) -> tuple[Any, list[torch.Tensor]]:
    """Return the model, and the list that it puts its scores into."""
    model, seen = auto_model(folder), list[torch.Tensor]()
    network = model.model
    plain = network.cal_decoder_with_predictor
    seaco = getattr(network, "_seaco_decode_with_ASF", None)

    def watch_plain(*given: Any) -> Any:
        found = plain(*given)
        seen.append(found[0])
        return found

    def watch_seaco(*given: Any, **more: Any) -> Any:
        assert seaco is not None
        seen.append(seaco(*given, **more))
        return seen[-1]

    network.cal_decoder_with_predictor = watch_plain
    network._seaco_decode_with_ASF = watch_seaco
    return model, seen


def expected(folder: Path, audio: FloatArray, hotwords: str | None = None) -> Expected:
    """Return what FunASR makes of the audio."""
    model, seen = _watched(folder)
    seen.clear()
    settings = {"hotword": hotwords} if hotwords else {}
    with undisturbed():
        results = model.generate(audio, **settings)
    found = seen[-1][0] if seen else torch.zeros(0, model.model.vocab_size)
    return Expected(results[0]["text"] if results else "", found.numpy())


def sound(seconds: float, seed: int = 0) -> FloatArray:
    """Return noise, and tones that change five times a second."""
    numbers = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    hertz = numbers.uniform(100, 3000, int(seconds * 5) + 1)[(times * 5).astype(int)]
    loud = 0.3 * np.abs(np.sin(2 * np.pi * 2.5 * times))
    noise = 0.02 * numbers.standard_normal(len(times))
    audio: FloatArray = (loud * np.sin(2 * np.pi * hertz * times) + noise).astype(np.float32)
    return audio


def heard(audio: FloatArray) -> Inputs:
    """Return a sample of the audio."""
    return {"audio": Waveform(audio, RATE)}


def text_of(output: object) -> str:
    """Return the text of an output."""
    assert isinstance(output, Noted)
    assert isinstance(output.value, Text)
    return output.value.content
