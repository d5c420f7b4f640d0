"""Whisper's log-mel spectrogram."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from transformers.audio_utils import mel_filter_bank

RATE: Final = 16_000  # Hz
HOP: Final = 160
WINDOW: Final = 400
FRAMES: Final = 3_000
SAMPLES: Final = FRAMES * HOP
"""The 30 s that the audio encoders read."""


def padded_length(samples: int) -> int:
    """Return how many samples the spectrogram of a clip of `samples` needs, silence included.

    What follows them up to 30 s is the spectrogram of silence, and no frame of it is needed.
    """
    return min(SAMPLES, (-(-samples // HOP) + 5) * HOP)


def log_mel(waves: torch.Tensor, bins: int) -> torch.Tensor:
    """Return ``(clips, bins, frames)``, 100 frames a second, of ``(clips, samples)`` at 16 kHz.

    The clips are to be padded to a common `padded_length`. The frames are the first of those that
    Whisper computes of the clip padded to 30 s.
    """
    window = torch.hann_window(WINDOW, device=waves.device)
    spectrum = torch.stft(waves, WINDOW, HOP, window=window, return_complex=True)
    power = spectrum[..., :-1].abs().square()  # (clips, 201, frames)
    mel = (_filters(bins, waves.device) @ power).clamp(min=1e-10).log10()
    loudest = mel.amax((1, 2), keepdim=True)
    return (mel.maximum(loudest - 8.0) + 4.0) / 4.0


@cache
def _filters(bins: int, device: torch.device) -> torch.Tensor:
    """Return ``(bins, 201)``; kept, because a copy to a GPU makes it wait."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + WINDOW // 2,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float().T.contiguous().to(device)
