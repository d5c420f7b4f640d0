"""The encoder egemaps for mercore; _model.py does the work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as version_of
from typing import ClassVar, Literal, Self

from mercore import Audio, Encode, Encoder, hookimpl
from pydantic import Field, model_validator

RATE = 16_000  # samples a second
DIMS = {"functionals": 88, "descriptors": 25}
DESCRIPTORS = 100.0  # rows of descriptors a second


class EgemapsEncoder(Encoder):
    """The voice in eGeMAPS: one row of 88 functionals a clip, or ``(frames, 25)`` at 100 Hz.

    Pitch in semitones above 27.5 Hz, jitter, shimmer, loudness, harmonics-to-noise ratio, formants
    1 to 3, the balance and slope of the spectrum, MFCC 1 to 4, and how fast voice comes and goes:
    version v02 of the set, as openSMILE computes it, in its order and units. Nothing is learnt, so
    there is no checkpoint and every device is the CPU. Audio of less than 60 ms is refused: the
    pitch is found in windows of that length.

    The set is by Eyben et al. (2016). openSMILE may be used for research and teaching but in no
    product; its licence is in the package `opensmile`.
    """

    name = "egemaps"
    inputs: ClassVar = {"audio": Audio(rate=RATE)}
    licence: ClassVar[str] = "audEERING Research License Agreement: no commercial use"
    citation: ClassVar[str] = """\
@article{eyben2016gemaps,
  author = {Eyben, Florian and Scherer, Klaus R. and Schuller, Bj{\\"o}rn W. and Sundberg, Johan
    and Andr{\\'e}, Elisabeth and Busso, Carlos and Devillers, Laurence Y. and Epps, Julien
    and Laukka, Petri and Narayanan, Shrikanth S. and Truong, Khiet P.},
  title = {The {Geneva} Minimalistic Acoustic Parameter Set ({GeMAPS}) for Voice Research and
    Affective Computing},
  journal = {IEEE Transactions on Affective Computing},
  volume = {7},
  number = {2},
  pages = {190--202},
  year = {2016},
  doi = {10.1109/TAFFC.2015.2457417},
}

@inproceedings{eyben2010opensmile,
  author = {Eyben, Florian and W{\\"o}llmer, Martin and Schuller, Bj{\\"o}rn},
  title = {{openSMILE}: The {Munich} Versatile and Fast Open-Source Audio Feature Extractor},
  booktitle = {Proceedings of the 18th ACM International Conference on Multimedia},
  pages = {1459--1462},
  year = {2010},
  doi = {10.1145/1873951.1874246},
}"""

    level: Literal["functionals", "descriptors"] = Field(
        default="functionals",
        description="Statistics of the clip, or what they are of: 100 rows a second.",
    )
    window: float | None = Field(
        default=None,
        ge=0.1,
        le=60,
        description="Seconds that a row of functionals is about; else the clip. What is left over "
        "at the end counts to the last row.",
    )

    @model_validator(mode="after")
    def _only_functionals_have_a_window(self) -> Self:
        if self.window is not None and self.level != "functionals":
            raise ValueError("window is for functionals; leave it out, or set level: functionals")
        return self

    @property
    def dim(self) -> int | None:
        """Return 88, or 25 for descriptors."""
        return DIMS[self.level]

    @property
    def frame_rate(self) -> float | None:
        """Return 100 Hz for descriptors, or how many windows there are a second, if any."""
        if self.level == "descriptors":
            return DESCRIPTORS
        return 1 / self.window if self.window is not None else None

    def identity(self) -> Mapping[str, str]:
        """Return the release of openSMILE, which decides the numbers beside the options."""
        return {"opensmile": version_of("opensmile")}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes, on the CPU whatever the device."""
        from mercore_egemaps._model import Model

        return Model(self)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders of this plugin."""
    return [EgemapsEncoder]
