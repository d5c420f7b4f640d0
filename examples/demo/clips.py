"""The clips of the data set: which there are, and the pictures and sound of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from actions import FPS, perform
from face import draw
from head import make_head
from numpy.random import Generator
from numpy.typing import NDArray
from people import Voice, make_person
from sentences import LEARN, TEST
from stage import make_stage
from voice import RATE, babble, coloured_noise, loudness, mixed_at, say

from mercore.media import FloatArray

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
PEOPLE: Mapping[str, int] = MappingProxyType(
    {"train": 30, "unlabelled": 8, "test": 9, "test_noise": 9}
)
CLIPS_EACH = 5  # of one identity
EMOTIONAL_WORDS = 0.6  # the share of clips whose words fit their class
SAMPLES_A_FRAME = round(RATE / FPS)
SHORTEST, LONGEST = 1.6, 2.4  # seconds
BYSTANDER = 1000  # number of the first identity that only babbles


@dataclass(frozen=True)
class Clip:
    """One clip before it is made."""

    id: str
    number: int
    split: str
    label: str
    person: int
    sentence: str
    face_intensity: float
    voice_intensity: float


def plan_clips(seed: int) -> list[Clip]:
    """Return all clips; identities belong to one split, classes are balanced within splits."""
    planned: list[Clip] = []
    person = 0
    for split, people in PEOPLE.items():
        for k in range(people * CLIPS_EACH):
            number, label = len(planned), CLASSES[k % len(CLASSES)]
            rng = np.random.default_rng([seed, 0, number])
            pools = TEST if split.startswith("test") else LEARN
            pool = pools[label if rng.random() < EMOTIONAL_WORDS else "shared"]
            sentence = pool[int(rng.integers(len(pool)))]
            intensities = rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)
            who = person + k // CLIPS_EACH
            planned.append(
                Clip(f"{split}_{k:03}", number, split, label, who, sentence, *intensities)
            )
        person += people
    return planned


def make_clip(clip: Clip, seed: int) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return pictures ``(frames, 192, 192, 3)`` RGB at 12.5 Hz, sound ``(samples,)`` at 16 kHz."""
    rng = np.random.default_rng([seed, 2, clip.number])
    person = make_person(f"person_{clip.person:02}", seed, clip.person)
    speech = say(clip.sentence, person.voice, clip.label, clip.voice_intensity, rng)
    sound, frames = _laid_out(speech, rng)
    head, stage = make_head(person.face), make_stage(person.face, person.scene)
    shots = perform(clip.label, clip.face_intensity, loudness(sound, frames), rng)
    pictures = np.stack([draw(head, stage, shot) for shot in shots])
    if clip.split == "test_noise":
        sound = _noisy(sound, seed, rng)
        pictures = _blurred(pictures) if rng.random() < 0.5 else pictures
    return pictures, sound


def _laid_out(speech: FloatArray, rng: Generator) -> tuple[FloatArray, int]:
    """Return the speech with silence around it, and how many frames the clip has."""
    lead, tail = rng.uniform(0.08, 0.2, 2)
    seconds = min(max(len(speech) / RATE + lead + tail, SHORTEST), LONGEST)
    frames = round(seconds * FPS)
    # A faint noise: digital silence is nothing that a microphone gives.
    sound = rng.normal(0, 2e-4, frames * SAMPLES_A_FRAME).astype(np.float32)
    start = min(round(lead * RATE), len(sound) - len(speech))
    sound[start : start + len(speech)] += speech
    return sound, frames


def _noisy(sound: FloatArray, seed: int, rng: Generator) -> FloatArray:
    """Return the sound with babble or coloured noise at an integer SNR of 5 to 10 dB.

    SNR, babble and blur are those of MER2024-NOISE (Z. Lian et al., 2024); coloured noise is added
    to them here.
    """
    snr = float(rng.integers(5, 11))
    if rng.random() < 0.6:
        voices = [_bystander(seed, rng) for _ in range(int(rng.integers(1, 4)))]
        return mixed_at(sound, babble(voices, len(sound), rng), snr)
    return mixed_at(sound, coloured_noise(len(sound), rng.uniform(0, 5), rng), snr)


def _bystander(seed: int, rng: Generator) -> tuple[str, Voice]:
    person = make_person("bystander", seed, BYSTANDER + int(rng.integers(40)))
    return LEARN["shared"][int(rng.integers(len(LEARN["shared"])))], person.voice


def _blurred(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pictures halved and doubled in size; by more, so small a face is lost."""
    return np.stack([np.asarray(cv2.pyrUp(cv2.pyrDown(each)), np.uint8) for each in pictures])
