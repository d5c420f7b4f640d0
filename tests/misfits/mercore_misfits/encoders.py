"""An encoder of loudness and brightness that breaks no rule, and others that break one each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from mercore import Audio, Encode, Encoder, InputError, Inputs, Noted, Waveform, Words
from mercore.media import FloatArray

RATE = 8_000
WINDOW = 800  # samples
COUNTER = itertools.count()
CHANCE = np.random.default_rng()
BUFFER = np.zeros(60 * RATE, np.float32)
THREAD = threading.local()
HOARD: dict[str, FloatArray] = {}


def samples_of(inputs: Inputs) -> FloatArray:
    audio = inputs["audio"]
    assert isinstance(audio, Waveform)
    return audio.samples


def measured(samples: FloatArray) -> FloatArray:
    """Return loudness and zero crossings of each tenth of a second."""
    padded = np.pad(samples, (0, -len(samples) % WINDOW)).reshape(-1, WINDOW)
    loudness = np.sqrt((padded**2).mean(axis=1))
    crossings = np.diff(np.signbit(padded), axis=1).mean(axis=1)
    return np.stack([loudness, crossings], axis=1).astype(np.float32)


class Level(Encoder):
    name: ClassVar[str] = "level"
    inputs: ClassVar = {"audio": Audio(rate=RATE)}

    @property
    def dim(self) -> int | None:
        return 2

    def one(self, inputs: Inputs) -> FloatArray:
        samples = samples_of(inputs)
        if not len(samples):
            raise InputError("the audio has 0 samples, expected 1 or more")
        return measured(samples)

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        return [self.one(inputs) for inputs in batch]

    def load(self, device: str, dtype: str) -> Encode:
        return self.batch


class Unregistered(Level):
    name: ClassVar[str] = "unregistered"


class Forgetful(Level):
    name: ClassVar[str] = "forgetful"
    window: int = Field(default=10, exclude=True)


class Lax(Level):
    model_config = ConfigDict(extra="ignore")
    name: ClassVar[str] = "lax"


class Unhashable(Level):
    name: ClassVar[str] = "unhashable"
    layers: list[int] = Field(default_factory=list)


class Restless(Level):
    name: ClassVar[str] = "restless"

    def identity(self) -> Mapping[str, JsonValue]:
        return {"weights": next(COUNTER)}


class Backwards(Level):
    name: ClassVar[str] = "backwards"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        return super().batch(batch)[::-1]


class BatchMean(Level):
    name: ClassVar[str] = "batch_mean"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        rows = [self.one(inputs) for inputs in batch]
        mean = np.concatenate(rows).mean(axis=0)
        return [row - np.float32(0.01) * mean for row in rows]


class Padded(Level):
    name: ClassVar[str] = "padded"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        rows = [self.one(inputs) for inputs in batch]
        longest = max(len(row) for row in rows)
        return [np.pad(row, ((0, longest - len(row)), (0, 0))) for row in rows]


class Noisy(Level):
    name: ClassVar[str] = "noisy"

    def one(self, inputs: Inputs) -> FloatArray:
        row = super().one(inputs)
        return row + CHANCE.uniform(0, 1e-6, row.shape).astype(np.float32)


class Remembers(Level):
    name: ClassVar[str] = "remembers"

    def one(self, inputs: Inputs) -> FloatArray:
        return super().one(inputs) + np.float32(1e-7 * next(COUNTER))


class RandomWeights(Level):
    name: ClassVar[str] = "random_weights"

    def load(self, device: str, dtype: str) -> Encode:
        weight = CHANCE.uniform(1.01, 1.02, 2).astype(np.float32)
        return lambda batch: [self.one(inputs) * weight for inputs in batch]


class InPlace(Level):
    name: ClassVar[str] = "in_place"

    def one(self, inputs: Inputs) -> FloatArray:
        samples_of(inputs)[:1] += 1.0
        return super().one(inputs)


class CrashesOnNothing(Level):
    name: ClassVar[str] = "crashes_on_nothing"

    def one(self, inputs: Inputs) -> FloatArray:
        samples_of(inputs)[0]
        return super().one(inputs)


class NanOfNothing(Level):
    name: ClassVar[str] = "nan_of_nothing"

    def one(self, inputs: Inputs) -> FloatArray:
        if not len(samples_of(inputs)):
            return np.full((1, 2), np.nan, np.float32)
        return super().one(inputs)


class Spoils(Level):
    name: ClassVar[str] = "spoils"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        if all(len(samples_of(inputs)) for inputs in batch):
            return super().batch(batch)
        value = np.nan if len(batch) > 1 else 0.0
        return [np.full((1, 2), value, np.float32) for _ in batch]


class CrashesOnShort(Level):
    name: ClassVar[str] = "crashes_on_short"

    def one(self, inputs: Inputs) -> FloatArray:
        if 0 < len(samples_of(inputs)) < 400:
            raise RuntimeError("kernel size can't be greater than actual input size")
        return super().one(inputs)


class CrashesOnLong(Level):
    name: ClassVar[str] = "crashes_on_long"

    def one(self, inputs: Inputs) -> FloatArray:
        if len(samples_of(inputs)) > 30 * RATE:
            raise IndexError("index out of range in self")
        return super().one(inputs)


class NeedsOptional(Level):
    name: ClassVar[str] = "needs_optional"
    inputs: ClassVar = {"audio": Audio(rate=RATE), "text": Words()}
    optional: ClassVar = frozenset({"text"})

    def one(self, inputs: Inputs) -> FloatArray:
        inputs["text"]
        return super().one(inputs)


class NumpyRecord(Level):
    name: ClassVar[str] = "numpy_record"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        rows = [self.one(inputs) for inputs in batch]
        return [Noted(row, {"level": row.mean()}) for row in rows]


class Double(Level):
    name: ClassVar[str] = "double"

    def one(self, inputs: Inputs) -> FloatArray:
        return super().one(inputs).astype(np.float64)


class Overflows(Level):
    name: ClassVar[str] = "overflows"

    def one(self, inputs: Inputs) -> FloatArray:
        seconds = len(samples_of(inputs)) / RATE
        return super().one(inputs) * np.float32(np.nan if 2 < seconds < 3 else 1)


class WrongDim(Level):
    name: ClassVar[str] = "wrong_dim"

    @property
    def dim(self) -> int | None:
        return 3


class HalfOut(Level):
    name: ClassVar[str] = "half_out"

    def load(self, device: str, dtype: str) -> Encode:
        kind = np.float16 if dtype == "float16" else np.float32
        return lambda batch: [self.one(i).astype(kind) for i in batch]


class NoHalf(Level):
    name: ClassVar[str] = "no_half"

    def load(self, device: str, dtype: str) -> Encode:
        if dtype == "bfloat16":
            np.dtype(dtype)  # numpy has none: a TypeError
        return self.batch


class AnyDevice(Level):
    name: ClassVar[str] = "any_device"

    def load(self, device: str, dtype: str) -> Encode:
        {"cpu": 0, "cuda": 1}[device]
        return self.batch


class Unpicklable(Level):
    name: ClassVar[str] = "unpicklable"

    @cached_property
    def lock(self) -> Lock:
        return Lock()

    def model_post_init(self, context: object) -> None:
        assert self.lock


class SharedBuffer(Level):
    name: ClassVar[str] = "shared_buffer"

    def one(self, inputs: Inputs) -> FloatArray:
        buffer = BUFFER[: len(samples_of(inputs))]
        buffer[:] = samples_of(inputs)
        time.sleep(1e-3)
        return super().one({"audio": Waveform(buffer, RATE)})


class OneThread(Level):
    name: ClassVar[str] = "one_thread"

    def load(self, device: str, dtype: str) -> Encode:
        THREAD.gain = np.float32(2)
        return lambda batch: [THREAD.gain * self.one(inputs) for inputs in batch]


class Hoards(Level):
    name: ClassVar[str] = "hoards"

    def load(self, device: str, dtype: str) -> Encode:
        weight = HOARD.setdefault(dtype, np.full(2, 2, np.float32))
        return lambda batch: [self.one(inputs) * weight for inputs in batch]


class SlowBatch(Level):
    name: ClassVar[str] = "slow_batch"

    def batch(self, batch: Sequence[Inputs]) -> Sequence[FloatArray | Noted[FloatArray]]:
        until = time.process_time() + 2e-3 * len(batch) ** 3
        while time.process_time() < until:
            pass
        return super().batch(batch)
