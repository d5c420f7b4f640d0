"""Small components with exact answers, installed as a plugin by a hand-written dist-info."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from time import sleep
from typing import ClassVar, Literal

import numpy as np

from mercore import (
    Audio,
    CheckpointError,
    Encode,
    Encoder,
    Features,
    Fusion,
    InputError,
    Inputs,
    Labelled,
    Media,
    Noted,
    Predict,
    Preprocessor,
    Text,
    Transform,
    Video,
    Waveform,
    Weights,
    Words,
    hookimpl,
)
from mercore.inputs import text_of
from mercore.media import FloatArray, Frames
from mercore.tuning import Classifying, Trainee


class Letters(Encoder):
    """How often each of the first letters of the alphabet occurs; one row a word."""

    name: ClassVar[str] = "letters"
    inputs: ClassVar = {"text": Words()}
    letters: int = 26

    @property
    def dim(self) -> int:
        return self.letters

    def load(self, device: str, dtype: str) -> Encode:
        alphabet = [chr(ord("a") + i) for i in range(self.letters)]

        def one(inputs: Inputs) -> FloatArray:
            text = inputs["text"]
            assert isinstance(text, Text)
            if "refuse" in text.content:
                raise InputError("this text is refused")
            words = text.content.split() or [""]
            counts = np.array([[w.count(x) for x in alphabet] for w in words], np.float32)
            if "nan" in text.content:
                counts[0, 0] = np.nan
            if "huge" in text.content:
                counts[0, 0] = 1e6
            return counts[:, :-1] if "narrow" in text.content else counts

        def encode(batch: Sequence[Inputs]) -> list[FloatArray]:
            texts = [inputs["text"] for inputs in batch]
            if len(batch) > 1 and any("greedy" in getattr(t, "content", "") for t in texts):
                raise MemoryError("out of memory")
            return [one(inputs) for inputs in batch]

        return encode


class Lonely(Letters):
    """Letters that fail to load while others of them load."""

    name: ClassVar[str] = "lonely"
    alone: ClassVar = Lock()

    def load(self, device: str, dtype: str) -> Encode:
        if not self.alone.acquire(blocking=False):
            raise CheckpointError("another one loads")
        try:
            sleep(0.05)
            return super().load(device, dtype)
        finally:
            self.alone.release()


class Deadly(Letters):
    """Letters that end their process for the text ``die``, once where a file is to be left.

    ``break`` breaks the GPU that there is not; each batch takes a moment.
    """

    name: ClassVar[str] = "deadly"
    left: Path | None = None
    seconds: float = 0.0
    load_kills: bool = False

    def load(self, device: str, dtype: str) -> Encode:
        if self.load_kills:
            os.kill(os.getpid(), signal.SIGKILL)
        letters = super().load(device, dtype)

        def encode(batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
            sleep(self.seconds)
            for text in (getattr(inputs["text"], "content", "") for inputs in batch):
                if "die" in text and not (self.left and self.left.exists()):
                    if self.left:
                        self.left.touch()
                    signal.raise_signal(signal.SIGSEGV)  # to this very thread
                if "break" in text:
                    raise RuntimeError("CUDA error: device-side assert triggered")
            return letters(batch)

        return encode


class Wide(Encoder):
    """As many numbers as the text has letters: those of another width fail."""

    name: ClassVar[str] = "wide"
    inputs: ClassVar = {"text": Words()}

    def load(self, device: str, dtype: str) -> Encode:
        def encode(batch: Sequence[Inputs]) -> list[FloatArray]:
            texts = [inputs["text"] for inputs in batch]
            return [np.ones((1, len(getattr(text, "content", ""))), np.float32) for text in texts]

        return encode


class Loudness(Encoder):
    """Root mean square of each tenth of a second."""

    name: ClassVar[str] = "loudness"
    inputs: ClassVar = {"audio": Audio(rate=8_000)}

    @property
    def frame_rate(self) -> float:
        return 10.0

    def load(self, device: str, dtype: str) -> Encode:
        def one(inputs: Inputs) -> FloatArray:
            audio = inputs["audio"]
            assert isinstance(audio, Waveform)
            frames = max(1, len(audio.samples) // 800)
            parts = np.array_split(audio.samples, frames)
            return np.array([[np.sqrt(np.mean(p**2))] for p in parts], np.float32)

        return lambda batch: [one(inputs) for inputs in batch]


class Brightness(Encoder):
    """Mean red, green and blue of each frame."""

    name: ClassVar[str] = "brightness"
    inputs: ClassVar = {"video": Video(count=4)}

    def load(self, device: str, dtype: str) -> Encode:
        def one(inputs: Inputs) -> FloatArray:
            frames = inputs["video"]
            assert isinstance(frames, Frames)
            means: FloatArray = frames.pixels.mean(axis=(1, 2)).astype(np.float32)
            return means

        return lambda batch: [one(inputs) for inputs in batch]


class Unloadable(Brightness):
    """Has no weights."""

    name: ClassVar[str] = "unloadable"

    def load(self, device: str, dtype: str) -> Encode:
        raise CheckpointError("no weights")


class Wobbly(Letters):
    """Runs on a machine that is out of file handles."""

    name: ClassVar[str] = "wobbly"

    def load(self, device: str, dtype: str) -> Encode:
        def encode(batch: Sequence[Inputs]) -> list[FloatArray]:
            raise OSError("too many open files")

        return encode


class Either(Encoder):
    """Counts its inputs."""

    name: ClassVar[str] = "either"
    inputs: ClassVar = {"audio": Audio(rate=8_000), "text": Words()}
    optional: ClassVar = frozenset({"text"})

    def load(self, device: str, dtype: str) -> Encode:
        return lambda batch: [np.array([[len(inputs)]], np.float32) for inputs in batch]


class Shout(Preprocessor):
    """Upper case."""

    name: ClassVar[str] = "shout"
    inputs: ClassVar = {"text": Words()}
    output: ClassVar = Words()
    mark: str = "!"

    def load(self, device: str, dtype: str) -> Transform:
        def one(inputs: Inputs) -> Noted[Media]:
            text = inputs["text"]
            assert isinstance(text, Text)
            if "refuse" in text.content:
                raise InputError("nothing to shout")
            words = text.content + self.mark
            return Noted(Text(words.upper()), {"warning": "loud"} if "loud" in words else {})

        return lambda batch: [one(inputs) for inputs in batch]


class Sign(Preprocessor):
    """The words, signed with the id of the sample."""

    name: ClassVar[str] = "sign"
    inputs: ClassVar = {"text": Words(), "id": Words()}
    output: ClassVar = Words()

    def load(self, device: str, dtype: str) -> Transform:
        def one(inputs: Inputs) -> Media:
            text, signature = inputs["text"], inputs["id"]
            assert isinstance(text, Text)
            assert isinstance(signature, Text)
            return Text(f"{text.content} {signature.content}")

        return lambda batch: [one(inputs) for inputs in batch]


class Halve(Preprocessor):
    """Half as loud."""

    name: ClassVar[str] = "halve"
    inputs: ClassVar = {"audio": Audio(rate=16_000)}
    output: ClassVar = Audio(rate=16_000)

    def load(self, device: str, dtype: str) -> Transform:
        def one(inputs: Inputs) -> Waveform:
            audio = inputs["audio"]
            assert isinstance(audio, Waveform)
            return Waveform(audio.samples * np.float32(0.5), audio.rate)

        return lambda batch: [one(inputs) for inputs in batch]


class Stills(Preprocessor):
    """The frames, as they are."""

    name: ClassVar[str] = "stills"
    inputs: ClassVar = {"video": Video(count=6)}
    output: ClassVar = Video()

    def load(self, device: str, dtype: str) -> Transform:
        return lambda batch: [inputs["video"] for inputs in batch]


class Both(Encoder):
    """Uses another component as an option."""

    name: ClassVar[str] = "both"
    inputs: ClassVar = {"text": Words()}
    first: Preprocessor
    then: Encoder | None = None

    def load(self, device: str, dtype: str) -> Encode:
        first = self.first.load(device, dtype)
        then = (self.then or Letters()).load(device, dtype)

        def encode(batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
            texts = [item.value if isinstance(item, Noted) else item for item in first(batch)]
            return then([{"text": text} for text in texts])

        return encode


class Learning(Classifying):
    """How the encoder `learner` is trained."""

    train: Literal["all", "head"] = "all"
    memory: int = 1000
    """The most samples at once."""
    without: str | None = None
    """Leave out texts with this in them."""

    def leaves_out(self) -> Callable[[Inputs], str | None] | None:
        unwanted = self.without
        if unwanted is None:
            return None
        return lambda inputs: "unwanted" if unwanted in text_of(inputs) else None

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        from toy_training import LearnerTrainee

        assert isinstance(encoder, Learner)
        return LearnerTrainee(encoder, self, classes, weights=weights)


class Learner(Encoder):
    """A layer on the counted letters, which can be trained."""

    name: ClassVar[str] = "learner"
    inputs: ClassVar = {"text": Words()}
    tunings: ClassVar = {"tune": Learning}
    example: ClassVar = {"checkpoint": "toy.safetensors"}
    checkpoint: str

    def load(self, device: str, dtype: str) -> Encode:
        from toy_training import encode

        return lambda batch: encode(self.checkpoint, [text_of(inputs) for inputs in batch])


class Centroid(Fusion):
    """Softmax of the negative distance to the mean of each class."""

    name: ClassVar[str] = "centroid"
    sharpness: float = 1.0

    def fit(
        self, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
    ) -> Weights:
        x = np.concatenate([train.features[name] for name in sorted(train.features)], axis=1)
        centres = np.full((classes, x.shape[1]), 1e3, np.float32)
        for label in set(train.labels.tolist()):
            centres[label] = x[train.labels == label].mean(axis=0)
        return {"centres": centres}

    def load(self, weights: Weights, device: str) -> Predict:
        def predict(features: Features) -> FloatArray:
            x = np.concatenate([features[name] for name in sorted(features)], axis=1)
            distance = np.linalg.norm(x[:, None] - weights["centres"], axis=2)
            scores = np.exp(-self.sharpness * (distance - distance.min(axis=1, keepdims=True)))
            table: FloatArray = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
            return table

        return predict


@hookimpl
def encoders() -> list[type[Encoder]]:
    return [Letters, Lonely, Deadly, Wide, Loudness, Brightness, Unloadable, Wobbly, Either, Both,
            Learner]  # fmt: skip


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    return [Shout, Sign, Halve, Stills]


@hookimpl
def fusions() -> list[type[Fusion]]:
    return [Centroid]
