"""What Paraformer reads of audio: stacked log-mel frames, normalised.

The frames are Kaldi's filter banks, computed by the same operations and in the same order as
torchaudio's, which FunASR uses. Nothing is random: there is no dither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from mercore.errors import CheckpointError
from mercore.media import FloatArray

RATE: Final = 16_000
_SCALE: Final = 2**15
"""Samples are in [-1, 1]; the networks were trained on those of 16-bit files."""
_PREEMPHASIS: Final = 0.97
_LOWEST: Final = 20.0  # Hz
_FLOOR: Final = torch.finfo(torch.float32).eps
_MATRIX = re.compile(r"<(AddShift|Rescale)>.*?\[([^\]]*)\]", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Features:
    """Turns audio into ``(frames, mels * stacked)`` float32, one frame every `step` x 10 ms."""

    shift: torch.Tensor
    """``(mels * stacked,)``: added to the frames."""
    scale: torch.Tensor
    """``(mels * stacked,)``: multiplied with their sum."""
    mels: int = 80
    window: int = 400
    """Samples of a frame: 25 ms."""
    hop: int = 160
    """Samples from one frame to the next: 10 ms."""
    stacked: int = 7
    """How many frames are put side by side."""
    step: int = 6
    """How many frames further the next stack starts."""

    def __call__(self, audio: FloatArray) -> torch.Tensor:
        """Return the features of audio of `window` samples at least."""
        frames = self._log_mels(torch.from_numpy(audio) * _SCALE)
        # (stacks, stacked): before the first and behind the last frame, these are repeated.
        starts = torch.arange(0, len(frames), self.step)[:, None]
        places = starts + torch.arange(self.stacked) - (self.stacked - 1) // 2
        stacks = frames[places.clamp(0, len(frames) - 1)].flatten(1)
        normalised: torch.Tensor = (stacks + self.shift) * self.scale
        return normalised

    def count(self, samples: int) -> int:
        """Return how many rows the features of so much audio have."""
        return -(-max(0, (samples - self.window) // self.hop + 1) // self.step)

    def _log_mels(self, audio: torch.Tensor) -> torch.Tensor:
        frames = audio.unfold(0, self.window, self.hop)  # (frames, window)
        frames = frames - frames.mean(1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = (frames - _PREEMPHASIS * before) * self._taper
        power = torch.fft.rfft(frames, self._bins * 2).abs().pow(2.0)  # (frames, bins + 1)
        levels: torch.Tensor = power @ self._banks.T  # (frames, mels)
        return levels.clamp_min(_FLOOR).log()

    @property
    def _bins(self) -> int:
        """Half the smallest power of two that holds a frame."""
        return int(2 ** (self.window - 1).bit_length()) // 2

    @cached_property
    def _taper(self) -> torch.Tensor:
        return torch.hamming_window(self.window, periodic=False, alpha=0.54, beta=0.46)

    @cached_property
    def _banks(self) -> torch.Tensor:
        """Return triangles ``(mels, bins + 1)``, evenly spaced on the mel scale; no last bin."""
        lowest, highest = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (_LOWEST, RATE / 2))
        edges = lowest + torch.arange(self.mels + 2) * ((highest - lowest) / (self.mels + 1))
        hertz = RATE / 2 / self._bins * torch.arange(self._bins)
        mel = 1127.0 * (1.0 + hertz / 700.0).log()
        left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
        return torch.nn.functional.pad(torch.minimum(rising, falling).clamp_min(0), (0, 1))


def features_of(told: Mapping[str, Any], cmvn: Path, config: Path) -> Features:
    """Return the features that ``frontend_conf`` of `config` tells, normalised by `cmvn`.

    Raises CheckpointError for what this cannot compute, another sampling rate say.
    """
    for name, expected in {"fs": RATE, "window": "hamming", "snip_edges": True}.items():
        if (found := told.get(name, expected)) != expected:
            raise CheckpointError(
                f"{config}: frontend_conf.{name} is {found!r}, expected {expected!r}: "
                f"'paraformer' reads audio at {RATE} Hz, in the frames of the published "
                "checkpoints; give one of those"
            )
    mels, stacked = int(told.get("n_mels", 80)), int(told.get("lfr_m", 1))
    shift, scale = _read_cmvn(cmvn, mels * stacked)
    return Features(
        shift,
        scale,
        mels,
        window=int(told.get("frame_length", 25)) * RATE // 1000,
        hop=int(told.get("frame_shift", 10)) * RATE // 1000,
        stacked=stacked,
        step=int(told.get("lfr_n", 1)),
    )


def _read_cmvn(file: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what to add and what to multiply with, ``(size,)`` each."""
    try:
        found = dict(_MATRIX.findall(file.read_text(encoding="utf-8")))
        parts = [np.array(found[name].split(), np.float32) for name in ("AddShift", "Rescale")]
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file}: holds no shifts and scales as Kaldi writes them; fetch the file again"
        ) from error
    if any(len(part) != size for part in parts):
        raise CheckpointError(
            f"{file}: holds {len(parts[0])} shifts and {len(parts[1])} scales, expected {size} of "
            "each; is it of another checkpoint?"
        )
    return torch.from_numpy(parts[0]), torch.from_numpy(parts[1])
