"""What a recogniser is trained on: utterances gathered once from the samples of a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mercore.components import Transform
from mercore.corrupt import worsening
from mercore.decode import decode
from mercore.encode import write_wav
from mercore.errors import InputError, RunError
from mercore.inputs import audio_of
from mercore.manifest import Sample
from mercore.media import Text, Waveform, Words
from mercore.reader import Item, Reader
from mercore.tuning._recognising import RATE, Recogniser, SelfTraining, UnfitError, Utterance
from mercore.tuning._utterances import mixed, stored, stored_utterances
from mercore.watch import Watch

PARTS = ("train", "held_out", "unlabelled")


@dataclass(frozen=True)
class Corpus:
    """The utterances of one training, in a folder; they are gathered when they are asked for."""

    samples: Sequence[Sample]
    reader: Reader
    tuning: SelfTraining
    recogniser: Recogniser
    folder: Path
    threads: int
    """Threads that decode ahead."""
    seed: int
    watch: Watch

    def __getitem__(self, part: str) -> list[Utterance]:
        """Return the utterances of one of `PARTS`; those held out have their noise already."""
        return [Utterance(**each) for each in self.gathered[part]]

    @cached_property
    def gathered(self) -> dict[str, Any]:
        """The parts, and what could not be used: ``left_out``, ``unknown`` and ``failed``."""
        found: dict[str, Any] = stored(self.folder / "data.json", self._gathered)
        return found

    def noisy(self, number: int, folder: Path) -> list[Utterance]:
        """Return the utterances to train on with what is added to them in round `number`."""
        return stored_utterances(
            folder / "mixed.json",
            lambda: mixed(self["train"], self._noise(number), folder / "audio"),
        )

    def _noise(self, number: int) -> Transform:
        options = self.tuning.adding(self.folder / "train", self.seed + number)
        return worsening("add_noise", options).load("cpu", "float32")

    def _gathered(self) -> dict[str, Any]:
        from mercore.tuning._pictures import parted

        known = [sample for sample in self.samples if sample.media.get("text")]
        others = [sample for sample in self.samples if not sample.media.get("text")]
        rows = parted(len(known), self.tuning.held_out, self.seed)
        longest = self.tuning.longest
        gather = _Gathering(self.reader, self.recogniser, longest, self.threads, self.watch)
        train, held_out = (
            gather([known[row] for row in part.tolist()], self.folder / name)
            for part, name in zip(rows, PARTS, strict=False)
        )
        if not train or not held_out:
            raise RunError(_too_few(len(known), gather))
        parts = {
            "train": train,
            "held_out": mixed(held_out, self._noise(0), self.folder / "held_out_noisy"),
            "unlabelled": gather(others, self.folder / "unlabelled"),
        }
        counts = {
            "left_out": gather.left_out,
            "unknown": dict(gather.unknown.most_common()),
            "failed": gather.failed,
        }
        return {name: list(map(asdict, part)) for name, part in parts.items()} | counts


@dataclass(frozen=True)
class _Gathering:
    """Writes what the recogniser hears of samples as files, and counts what is left out."""

    reader: Reader
    recogniser: Recogniser
    longest: float
    threads: int
    watch: Watch
    left_out: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    """How often each character occurs that the vocabulary lacks."""
    failed: dict[str, str] = field(default_factory=dict)

    def __call__(self, samples: Sequence[Sample], folder: Path) -> list[Utterance]:
        """Return the utterances of the samples, with files in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.watch.start(folder.name, len(samples))
        found = []
        with self.reader.ahead(samples, self.threads) as items:
            for number, item in enumerate(items):
                try:
                    found.append(self._one(item, folder / f"{number:06}.wav"))
                except UnfitError as error:
                    self.left_out[error.reason] += 1
                    self.unknown.update(error.unknown)
                except InputError as error:
                    self.failed[item.sample.id] = str(error)
                self.watch.advance(folder.name, 1, int(item.error is not None))
        return found

    def _one(self, item: Item, file: Path) -> Utterance:
        if item.error is not None:
            raise InputError(str(item.error)) from item.error
        audio = audio_of(item.inputs, rate=RATE)
        seconds = len(audio) / RATE
        if seconds > self.longest:
            raise UnfitError(f"longer than {self.longest:g} s")
        if not audio.any():
            raise UnfitError("silent")
        spelt = ""
        if item.sample.media.get("text"):
            spelt = self.recogniser.spelt(transcript(item.sample), seconds)
        write_wav(file, Waveform(audio, RATE))
        return Utterance(item.sample.id, str(file.absolute()), seconds, spelt)


def transcript(sample: Sample) -> str:
    """Return the sample's text in the manifest, read from its file if it is one."""
    path = sample.file("text")
    if path is None:
        return sample.words("text") or ""
    text = decode(path, Words())
    assert isinstance(text, Text)
    return text.content


def _too_few(known: int, gather: _Gathering) -> str:
    reasons = [f"{count} {reason}" for reason, count in gather.left_out.items()]
    reasons += [f"{len(gather.failed)} unreadable"] if gather.failed else []
    lacking = "".join(character for character, _ in gather.unknown.most_common(10))
    return (
        f"{known} samples have a text, and too few can be used; expected one to train on and one "
        f"to hold out (left out: {', '.join(reasons) or 'none'}"
        + (f"; the vocabulary lacks {lacking})" if lacking else ")")
    )
