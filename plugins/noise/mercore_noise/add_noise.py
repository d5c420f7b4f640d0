"""Noise, background voices and rooms, added to a clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from mercore.citations import MER2024, REFERENCE
from mercore.components import Preprocessor, Transform
from mercore.media import Audio, Words
from mercore_noise.folders import identity_of

SIMULATED: Final = "simulated"
"""What `rooms` says when the rooms are to be made up."""


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"expected the lower limit first, found {list(limits)}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class Mixture(BaseModel):
    """How many clips of each condition there are: shares, which need not sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: float = Field(default=0.0, ge=0.0, description="The clip as it is.")
    noise: float = Field(default=0.0, ge=0.0, description="Noise is added.")
    voices: float = Field(default=0.0, ge=0.0, description="Background voices are added.")
    rooms: float = Field(
        default=0.0, ge=0.0, description="The clip itself is heard in a room; nothing is added."
    )


PAPER: Final = Mixture(clean=2.0, noise=1.0, voices=1.0)
"""Section 2.4.1 of Ge et al. 2024: clean : environment : background voices = 2 : 1 : 1."""


class AddNoise(Preprocessor):
    """The clip with noise, with voices in the background, or as heard in a room: 16 kHz, as long.

    A condition is drawn for each sample by `mixture`. ``noise`` and ``voices``: files of a folder
    are drawn and joined until they are longer than the clip, a piece as long as the clip is drawn
    from them, and it is added at a signal-to-noise ratio drawn from `snr` or `voices_snr`,
    ``20 log10(rms(clip) / rms(what is added))`` over the whole clip. Background voices are first
    heard in a room where there are `rooms`. ``rooms``: the clip itself is. Only a sum that would
    clip is scaled, to a peak of 1.

    All that is drawn depends on the sample's id, `seed` and the folders' files, not on the order of
    the samples, the batch or the machine. A piece below -80 dB of full scale counts as silent and
    is drawn again; a clip below that stays as it is.

    The record is ``{"condition": ..., "snr": in dB, "files": names in the folder, "offset": seconds
    from the start of the first file, "room": a file, or the size in metres and the reverberation
    time}``, as far as it applies, with ``"scale"`` where the sum was scaled, and ``"silent": true``
    for a silent clip. Runs on the CPU whatever `device` and `dtype` are.

    Source: Ge et al. 2024, section 2.4.1 (5 to 12 dB of MUSAN, 10 to 30 dB of voices with room
    impulse responses, 2 : 1 : 1); the ratio and the pieces are those of MER2024-NOISE (Lian et al.
    2024), a room that of Kaldi's ``wav-reverberate --shift-output``: convolved, moved back by the
    delay of the direct path, at the power it had. Deviations: the ratio is drawn from all numbers
    of the range, where MER2024-NOISE draws whole ones; files that have several channels give their
    mean, or the first channel of an impulse response.

    Raises ``RegistryError`` for a folder that is not there or has no audio, ``RunError`` where no
    file has any sound, ``PluginError`` where simulated rooms lack their package, ``InputError`` for
    audio without samples and for a damaged file of a folder.
    """

    name = "add_noise"
    citation = REFERENCE + MER2024
    example: ClassVar = {"noise": "musan/noise"}
    inputs: ClassVar = {"audio": Audio(rate=16_000), "id": Words()}
    output = Audio(rate=16_000)

    noise: str | None = Field(
        default=None, description="A folder of noise: any tree of audio files, such as MUSAN."
    )
    voices: str | None = Field(
        default=None, description="A folder of speech, for voices in the background."
    )
    rooms: str | None = Field(
        default=None,
        description="A folder of room impulse responses, or `simulated` for rooms made up by "
        "pyroomacoustics. Background voices are heard in them.",
    )
    snr: Range = Field(default=(5.0, 12.0), description="From how many dB to how many, for noise.")
    voices_snr: Range = Field(default=(10.0, 30.0), description="The same for background voices.")
    mixture: Mixture = Field(
        default=PAPER,
        description="The shares of the conditions: `clean`, `noise`, `voices` and `rooms`; those "
        "not given are 0. Of the default, what has no folder is left out.",
    )
    seed: int = Field(default=0, description="Another seed draws anew for every sample.")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AddNoise:
        missing = [name for name in self._lacking() if getattr(self.mixture, name)]
        if missing and self.mixture != PAPER:
            raise ValueError(
                f"mixture: {missing[0]} has a share; give the folder {missing[0]} as well"
            )
        if self.mixture == PAPER and self.noise is None and self.voices is None:
            raise ValueError(
                "nothing to add; give noise, voices, or rooms and a mixture with rooms"
            )
        if not sum(self.shares().values()):
            raise ValueError("mixture: every share is 0; give at least one condition a share")
        if self.rooms and not {"voices", "rooms"} & self.shares().keys():
            raise ValueError("rooms: never used; give voices, or a mixture with rooms")
        return self

    def _lacking(self) -> list[str]:
        return [name for name in ("noise", "voices", "rooms") if getattr(self, name) is None]

    def shares(self) -> dict[str, float]:
        """Return the share of each condition that can be drawn."""
        given: dict[str, float] = self.mixture.model_dump()
        return {name: n for name, n in given.items() if n and name not in self._lacking()}

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the folders' files, wherever they lie."""
        folders = {"noise": self.noise, "voices": self.voices, "rooms": self.rooms}
        return {
            option: identity_of(folder, option)
            for option, folder in folders.items()
            if folder is not None and (option, folder) != ("rooms", SIMULATED)
        }

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that adds noise."""
        from mercore_noise._mix import NoiseAdder

        return NoiseAdder(self)
