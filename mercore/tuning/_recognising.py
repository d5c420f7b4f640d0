"""Training a recogniser of speech: the options, and what a plugin offers for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from mercore.errors import InputError
from mercore.tuning._options import Training

if TYPE_CHECKING:
    from mercore.components import Preprocessor

RATE = 16_000
"""Samples a second of the audio that recognisers are trained on."""


@dataclass(frozen=True)
class Utterance:
    """What somebody says."""

    id: str
    audio: str
    """The absolute path of a 16-bit WAV file at 16 kHz."""
    seconds: float
    text: str = ""
    """What is said, as `Recogniser.spelt` has it; empty where nobody knows."""
    condition: str = "clean"
    """What was added: ``noise``, ``voices``, or nothing."""


class UnfitError(InputError):
    """A transcript that cannot be trained on."""

    def __init__(self, reason: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unknown = tuple(unknown)
        """Characters that the vocabulary lacks."""


Note = Callable[[Mapping[str, float]], None]
"""Is told of an epoch: ``step, epoch, loss, learning_rate, eval_loss, eval_accuracy``."""


class Recogniser(ABC):
    """A recogniser's network in training."""

    @abstractmethod
    def spelt(self, text: str, seconds: float) -> str:
        """Return a transcript as it is trained on; raises UnfitError for one that cannot be.

        `seconds` is how long the audio is: there may be more to say than it has room for.
        """

    @abstractmethod
    def fit(
        self,
        train: Sequence[Utterance],
        valid: Sequence[Utterance],
        folder: Path,
        *,
        device: str,
        seed: int,
        note: Note,
    ) -> Callable[[Path], None]:
        """Train from the checkpoint on; return what writes the best state in the published layout.

        An interrupted training goes on from what it left in `folder`, with the same losses. `note`
        is told of each epoch before its state is kept. Raises RunError for a loss that is no
        number.
        """


class SelfTraining(Training):
    """Training a recogniser on transcripts with noise, and in rounds on its own confident ones.

    Section 2.4.1 of Ge et al. 2024, which gives neither the confidence nor the number of rounds.
    """

    splits: tuple[str, ...] = ("train", "unlabelled")
    """The splits that are looked at: samples with a `text` are trained on, others transcribed."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """The share of the transcripts that is not trained on, and whose error rate is watched."""
    rounds: int = Field(default=5, ge=1)
    """The most rounds. The first is on the transcripts; each one more adds what the best before it
    makes of the rest. They end when the error rate does not fall."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the utterances in a round."""
    confidence: float = Field(default=0.9, ge=0, le=1)
    """Own transcripts of at least this confidence are trained on. It is that of the record: the
    geometric mean probability of the tokens, so the average score of a token in the search, where
    the network alone decides."""
    longest: float = Field(default=20.0, gt=0)
    """Leave out utterances that are longer than so many seconds."""
    noise: str | None = None
    """A folder of noise, such as that of MUSAN; null for none."""
    voices: str | None = None
    """A folder of speech for voices in the background; null for the training utterances."""
    rooms: str | None = None
    """Where the voices are heard: a folder of impulse responses, or ``simulated``."""
    snr: tuple[float, float] = (5.0, 12.0)
    """From how many dB to how many, for noise."""
    voices_snr: tuple[float, float] = (10.0, 30.0)
    """The same for voices."""
    mixture: Mapping[str, float] | None = None
    """The shares of what is added to transcribed utterances, as ``add_noise`` takes them; null for
    the paper's ``{clean: 2, noise: 1, voices: 1}`` of what there is."""

    @abstractmethod
    def prepare(self, component: Preprocessor) -> Recogniser:
        """Return the network of the component, to be trained; raises as its ``load`` does."""

    def adding(self, voices: Path, seed: int) -> dict[str, JsonValue]:
        """Return the options of ``add_noise``; `voices` is the folder of utterances."""
        names = {"noise", "voices", "rooms", "snr", "voices_snr", "mixture"}
        given = self.model_dump(mode="json", include=names, exclude_none=True)
        return {"voices": str(voices), **given, "seed": seed}
