"""MossFormer2 speech separation as a denoiser for mercore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints, hookimpl
from mercore.citations import REFERENCE
from mercore.components import Preprocessor, Transform
from mercore.denoising import SpeechChoice
from mercore.media import Audio

__version__ = "0.1.0"


class MossFormer2(SpeechChoice, Preprocessor):
    """One of two separated recordings, or the noisy audio: as long as that, at 16 kHz.

    MossFormer2 takes the audio for a mixture of two voices, of which one may be noise, and makes a
    recording of each, ``first`` and ``second``. Which one is wanted is decided by the rule of Ge et
    al. 2024 (section 2.4.2): `asr` transcribes the noisy audio and both recordings, and the one
    whose words are more like those of the noisy audio is taken, where the two differ by more than
    `margin`; else the noisy audio is kept.

    Each recording has the level at which it is in the noisy audio: the gain that brings it nearest
    to it. The record has the decision, the texts and the similarities; ``band``, the frequencies in
    Hz that the chosen audio can hold; and ``windows``, into how many pieces it was cut. Where
    that is more than one, ``alignment`` in [0, 1] says how sure it is, at the least sure of the
    seams, which voice goes on in which recording.

    Clips run one by one, unpadded, so that no sample depends on its batch.

    Source: Zhao et al. 2024, "MossFormer2: combining transformer and RNN-free recurrent network for
    enhanced time-domain monaural speech separation", arXiv:2312.11825. Weights (Apache-2.0):
    ``alibabasglab/MossFormer2_SS_16K`` and, of ModelScope,
    ``iic/speech_mossformer2_separation_temporal_8k``.

    Deviations: ModelScope's pipeline brings each recording to a peak of 0.5; clearvoice cuts audio
    over 2 s into windows and joins them without asking which voice is which.

    Raises ``CheckpointError`` for weights that are missing, cut or of another network,
    ``InputError`` for audio without samples or with some that are not finite, ``RunError`` for
    float16, which the sums over a clip may exceed.
    """

    name = "mossformer2"
    licence = "Apache-2.0"
    citation = (
        REFERENCE
        + """
        @inproceedings{zhao2024mossformer2,
          author = {Zhao, S. and Ma, Y. and Ni, C. and Zhang, C. and Wang, H. and Nguyen, T. H. and
            Zhou, K. and Yip, J. Q. and Ng, D. and Ma, B.},
          title = {{MossFormer2}: Combining Transformer and {RNN}-Free Recurrent Network for
            Enhanced Time-Domain Monaural Speech Separation},
          booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing
            (ICASSP)},
          pages = {10356--10360},
          year = {2024},
        }
    """
    )
    example: ClassVar = {"asr": {"uses": "paraformer"}}
    output = Audio(rate=16_000)

    checkpoint: str = Field(
        default="alibabasglab/MossFormer2_SS_16K",
        description="A hub id, a folder as published there or on ModelScope, or a file.",
    )
    rate: Literal[8_000, 16_000] | None = Field(
        default=None,
        description="The sampling rate the weights were trained at, in Hz. Null for what "
        "configuration.json says; without that file 16,000 for names of clearvoice, which start "
        "with `model.`, and 8,000 for those of ModelScope.",
    )
    window: float = Field(
        default=30.0,
        ge=2.0,
        description="Audio longer than this many seconds is separated in windows that overlap, for "
        "memory, which grows with the length.",
    )
    overlap: float = Field(
        default=4.0,
        ge=1.0,
        description="By how many seconds two windows overlap at least: what tells which voice is "
        "which. At most half a window.",
    )

    @model_validator(mode="after")
    def _chooses(self) -> MossFormer2:
        if self.asr is None:
            raise ValueError(
                "mossformer2 separates two voices and needs `asr` to choose between them; add "
                "asr: {uses: NAME} with a speech recogniser"
            )
        if self.overlap > self.window / 2:
            raise ValueError(
                f"overlap: {self.overlap:g} is more than half of window: {self.window:g}"
            )
        return self

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that separates and chooses; the `asr` has the same `device`."""
        from mercore_mossformer2._model import Separator

        return Separator(self, device, dtype)


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    """Return the preprocessors this plugin provides."""
    return [MossFormer2]
