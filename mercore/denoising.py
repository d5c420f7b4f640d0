"""Which of two separated recordings is the speech: the choice of section 2.4.2 of the paper.

A separator turns noisy audio into two recordings and does not say which one is wanted. The noisy
audio is transcribed (the template), then both recordings; the one whose words are more like the
template is taken, where they differ enough, and else the noisy audio is kept.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field, field_validator

from mercore.components import Inputs, MediaComponent, Noted, Preprocessor, Record
from mercore.errors import InputError
from mercore.inputs import text_of
from mercore.media import Audio, FloatArray, Media, Spec, Text, Waveform, Words

Unit = Literal["characters", "words"]
Transcribe = Callable[[Sequence[Waveform]], list[str]]
"""From recordings to what is said in each, in order."""

ORIGINAL = "original"
"""The decision to keep the noisy audio."""


class SpeechChoice(BaseModel):
    """Adds the options of the choice to a denoiser; name it before ``Preprocessor``.

    The heavy half makes ``Separated`` recordings and hands them to a `Chooser`. The inputs are
    ``audio`` and, where there is a stream of what is said in it, ``text``: the template, which is
    else transcribed anew.

    The record of a sample says what was chosen: ``{"decision": "original" or the name of a
    recording, "texts": {"noisy": ..., and one for each recording}, "similarity": {one for each
    recording}}``.
    """

    inputs: ClassVar[Mapping[str, Spec]] = {"audio": Audio(rate=16_000), "text": Words()}
    optional: ClassVar[frozenset[str]] = frozenset({"text"})

    asr: Preprocessor | None = Field(
        default=None,
        description="What transcribes: any preprocessor that turns audio into text, as "
        "`{uses: NAME, with: {...}}`.",
    )
    margin: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="A recording is taken only where the similarities of the two to the template "
        "differ by more than this.",
    )
    similarity: Unit = Field(
        default="characters",
        description="What the similarity counts: 1 - edits / length of the longer text, over "
        "characters or over words. Case, punctuation and spaces do not count; a Chinese character "
        "is a word.",
    )

    def needs(self) -> Mapping[str, Spec]:
        """Return the inputs; the template only where there is a choice to make."""
        return {name: spec for name, spec in self.inputs.items() if self.asr or name != "text"}

    @field_validator("asr")
    @classmethod
    def _transcribes(cls, asr: Preprocessor | None) -> Preprocessor | None:
        if asr is not None:
            _audio_input(asr)
            if not isinstance(asr.output, Words):
                raise ValueError(f"{asr.name!r} makes no text; name a speech recogniser")
        return asr


def _audio_input(asr: MediaComponent) -> tuple[str, Audio]:
    """Return the name of the input a recogniser needs, and its sampling rate."""
    needed = {name: spec for name, spec in asr.needs().items() if name not in asr.optional}
    for name, spec in needed.items():
        if isinstance(spec, Audio) and len(needed) == 1:
            return name, spec
    raise ValueError(f"{asr.name!r} reads {', '.join(needed)}, expected audio alone")


@dataclass(frozen=True, eq=False)
class Separated:
    """Noisy audio and the two recordings it was separated into."""

    noisy: Waveform
    sources: Mapping[str, FloatArray]
    """The two recordings by name: ``(samples,)`` float32, of the rate and length of `noisy`."""
    template: str | None = None
    """What is said in the noisy audio, where that is known."""
    record: Record = field(default_factory=dict)
    """What the separator notes."""


class Chooser:
    """Takes the recording whose words are most like those of the noisy audio.

    Where nothing is understood in the noisy audio there is no template, and it is kept.
    """

    def __init__(self, options: SpeechChoice, device: str, dtype: str) -> None:
        assert options.asr is not None
        self._margin = options.margin
        self._unit = options.similarity
        self._transcribe = transcriber(options.asr, device, dtype)

    def __call__(self, batch: Sequence[Separated]) -> list[Noted[Media]]:
        """Return the chosen audio of each sample, in order, with the record of the choice."""
        unknown = [sample.noisy for sample in batch if sample.template is None]
        sources = [
            Waveform(samples, sample.noisy.rate)
            for sample in batch
            for samples in sample.sources.values()
        ]
        heard = iter(self._transcribe([*unknown, *sources]))
        templates = [next(heard) if s.template is None else s.template for s in batch]
        return [
            self._chosen(sample, template, {name: next(heard) for name in sample.sources})
            for sample, template in zip(batch, templates, strict=True)
        ]

    def _chosen(self, sample: Separated, template: str, texts: Mapping[str, str]) -> Noted[Media]:
        alike = {name: similarity(text, template, self._unit) for name, text in texts.items()}
        taken = decide(alike, self._margin) if units(template, self._unit) else ORIGINAL
        audio = sample.noisy
        if taken != ORIGINAL:
            audio = Waveform(sample.sources[taken], audio.rate)
        record: Record = {
            **sample.record,
            "decision": taken,
            "texts": {"noisy": template, **texts},
            "similarity": {name: round(value, 4) for name, value in alike.items()},
        }
        return Noted(audio, record)


def decide(alike: Mapping[str, float], margin: float) -> str:
    """Return the name of the recording to take, or ``original``.

    `alike` holds the similarity of each of two recordings to the template. Section 2.4.2: the
    higher one where |Sim_id0 - Sim_id1| exceeds the margin (0.1), else the original audio.
    """
    lower, higher = sorted(alike, key=lambda name: alike[name])
    # Similarities are ratios: 0.8 - 0.7 is 0.1 only but for rounding, and does not exceed it.
    exceeds = alike[higher] - alike[lower] > margin + 1e-9
    return higher if exceeds else ORIGINAL


def similarity(text: str, template: str, unit: Unit = "characters") -> float:
    """Return how alike two texts are, in [0, 1]: 1 - edits / length of the longer one.

    Edits are insertions, deletions and replacements of characters or words (Levenshtein). Letters
    and digits count, whatever their case or width; two texts without any are alike.
    """
    from rapidfuzz.distance import Levenshtein

    ours, theirs = units(text, unit), units(template, unit)
    return float(Levenshtein.normalized_similarity(ours, theirs))


def units(text: str, unit: Unit) -> list[str]:
    """Return the characters of a text that are letters or digits, or its words, in small letters.

    An ideograph is a word of its own.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    if unit == "characters":
        return [character for character in plain if character.isalnum()]
    spaced = (
        f" {c} " if _is_ideograph(c) else c if c.isalnum() or c == "'" else " " for c in plain
    )
    return "".join(spaced).split()


def _is_ideograph(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED")


def transcriber(asr: Preprocessor, device: str, dtype: str) -> Transcribe:
    """Return a function from recordings to texts, with the recogniser's weights loaded."""
    from mercore.decode import resample  # imports codecs, which components must not

    name, spec = _audio_input(asr)
    function = asr.load(device, dtype)

    def transcribe(recordings: Sequence[Waveform]) -> list[str]:
        batch: list[Inputs] = [{name: resample(audio, spec.rate)} for audio in recordings]
        return [_content(output) for output in function(batch)] if batch else []

    return transcribe


def _content(output: Media | Noted[Media]) -> str:
    media = output.value if isinstance(output, Noted) else output
    assert isinstance(media, Text)  # its `output` is Words
    return media.content


def noisy_audio(sample: Inputs) -> Waveform:
    """Return the input ``audio``; raises InputError unless it is finite audio with samples."""
    audio = sample["audio"]
    if not isinstance(audio, Waveform):
        raise InputError(f"the input 'audio' holds {type(audio).__name__}, expected audio")
    if not len(audio.samples):
        raise InputError("the audio has 0 samples, expected 1 or more; check the clip has sound")
    if not np.isfinite(audio.samples).all():
        raise InputError("the audio has samples that are not finite; check how it was made")
    return audio


def template_of(sample: Inputs) -> str | None:
    """Return what is said in the noisy audio, where a stream of it is wired."""
    return text_of(sample) if sample.get("text") is not None else None
