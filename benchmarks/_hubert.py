"""What `encoders.py` needs to know of HuBERT-base: a checkpoint, clips, and a loop over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import av
import numpy as np

from mercore.decode import read_audio
from mercore.media import FloatArray

COLUMN: Final = "audio"
REGISTRY: Final = "{{uses: hubert, inputs: {{audio: audio}}, dtype: {dtype}, with: {options}}}"
OPTIONS: Final = {"preset": "mertools"}
RATE: Final = 44_100
SHORTEST, LONGEST = 1.0, 8.0  # seconds


def checkpoint(folder: Path) -> None:
    """Write HuBERT-base with random weights, as it is published."""
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))


def clip(path: Path, number: int, count: int) -> Path:
    """Write an mp4 of noise and tones that come and go, one of `count` lengths."""
    numbers = np.random.default_rng(number)
    # In no order of length, as in a data set.
    share = number * 7 % count / max(1, count - 1)
    times = np.arange(int(RATE * (SHORTEST + share * (LONGEST - SHORTEST)))) / RATE
    loud = np.abs(np.sin(2 * np.pi * numbers.uniform(1, 3) * times))
    tones = sum(np.sin(2 * np.pi * hertz * times) for hertz in numbers.uniform(100, 2000, 5))
    sound = (0.1 * loud * (tones + 0.3 * numbers.standard_normal(len(times)))).astype(np.float32)
    target = path.with_suffix(".mp4")
    with av.open(str(target), "w") as container:
        track = container.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([sound, sound]), "fltp", "stereo")
        frame.rate = RATE
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return target


def loop(folder: Path) -> Callable[[str], FloatArray]:
    """Return what MERTools does with a file, rewritten: its features, one file at a time."""
    import torch
    from transformers import HubertModel

    model = HubertModel.from_pretrained(folder)  # in evaluation mode

    def features(path: str) -> FloatArray:
        audio = read_audio(path, 16_000).samples
        audio = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
        with torch.no_grad():
            states = model(torch.from_numpy(audio[None]), output_hidden_states=True).hidden_states
            summed = torch.stack(states)[[-4, -3, -2, -1]].sum(0)
        pooled: FloatArray = summed[0].numpy().mean(0)
        return pooled

    return features
