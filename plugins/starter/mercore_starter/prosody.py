"""Prosody: what classical signal processing hears in a voice, without weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mercore.components import Encode, Encoder
from mercore.media import Audio

FRAME_FEATURES = (
    "log_energy",
    "log_f0",
    "voiced",
    "centroid",
    "bandwidth",
    "rolloff",
    "flux",
    "zero_crossings",
    *(f"mfcc_{index}" for index in range(13)),
)
"""The columns of a frame; their deltas follow in the same order."""
STATISTICS = ("mean", "std", "p10", "p50", "p90")
"""The blocks of the pooled row: each over all columns of a frame."""


class Prosody(Encoder):
    """Pitch, loudness and timbre: one row of 210 statistics a clip, or ``(frames, 42)`` at 100 Hz.

    Frame t is centred at (t + 0.5) x 10 ms, under a Hann window of 25 ms; the clip is followed and
    preceded by silence. The columns are ``FRAME_FEATURES`` and then their deltas, slopes a frame
    over five frames:

    - ``log_energy``: natural log of the mean square, plus 1e-10;
    - ``log_f0``: natural log of the pitch in Hz by YIN (windows of 2 / `f0_min`), interpolated
      where nothing is voiced, 0 when the clip has no voiced frame; ``voiced``: 1 or 0;
    - ``centroid``, ``bandwidth``, ``rolloff`` (85 %) of the power spectrum in kHz; ``flux``: the
      Euclidean distance to the frame before, of magnitude spectra that sum to 1;
    - ``zero_crossings``: share of neighbouring samples that differ in sign;
    - ``mfcc_0`` to ``mfcc_12``: orthonormal DCT-II of log(energy + 1e-6) in 40 triangular bands,
      evenly spaced on HTK's mel scale from 0 to 8 kHz, of the 512-point power spectrum.

    `pool` makes mean, standard deviation and the 10th, 50th and 90th percentile of each column,
    blocks in that order (``STATISTICS``); those of ``log_f0`` and its delta are over the voiced
    frames alone, and 0 when there is none. Always computes in float32 and float64 on the CPU.
    Raises ``InputError`` for audio without samples.

    Source: de Cheveigné and Kawahara 2002, "YIN, a fundamental frequency estimator for speech and
    music" (steps 1 to 5); Davis and Mermelstein 1980 for the MFCC. No weights, no licence.
    """

    name = "prosody"
    citation = """
        @article{decheveigne2002yin,
          author = {de Cheveign{\\'e}, Alain and Kawahara, Hideki},
          title = {{YIN}, a fundamental frequency estimator for speech and music},
          journal = {The Journal of the Acoustical Society of America},
          volume = {111},
          number = {4},
          pages = {1917--1930},
          year = {2002},
        }
        @article{davis1980comparison,
          author = {Davis, Steven B. and Mermelstein, Paul},
          title = {Comparison of parametric representations for monosyllabic word recognition in
            continuously spoken sentences},
          journal = {IEEE Transactions on Acoustics, Speech, and Signal Processing},
          volume = {28},
          number = {4},
          pages = {357--366},
          year = {1980},
        }
    """
    inputs: ClassVar = {"audio": Audio(rate=16_000)}

    pool: Literal["statistics", "none"] = "statistics"
    """One row of statistics, which keeps the variation that a mean loses, or the frames."""
    f0_min: float = Field(default=60.0, ge=40.0, le=500.0)
    """The lowest pitch to look for, in Hz."""
    f0_max: float = Field(default=500.0, ge=100.0, le=2000.0)
    """The highest pitch to look for, in Hz."""

    @property
    def dim(self) -> int:
        """42 a frame, 210 pooled."""
        columns = 2 * len(FRAME_FEATURES)
        return columns if self.pool == "none" else columns * len(STATISTICS)

    @property
    def frame_rate(self) -> float | None:
        """100 Hz, or None when pooled."""
        return 100.0 if self.pool == "none" else None

    @model_validator(mode="after")
    def _pitch_range(self) -> Prosody:
        if self.f0_min >= self.f0_max:
            raise ValueError(f"f0_min {self.f0_min!r} is not below f0_max {self.f0_max!r}")
        return self

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; `device` and `dtype` are not used."""
        from mercore_starter._prosody import ProsodyEncoder

        return ProsodyEncoder(self)
