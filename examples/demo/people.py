"""Random identities: what a synthetic person looks and sounds like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Colour = tuple[float, float, float]  # RGB in [0, 1], as displayed

SKINS: tuple[Colour, ...] = (
    (0.96, 0.80, 0.70), (0.93, 0.74, 0.61), (0.88, 0.67, 0.53), (0.80, 0.58, 0.43),
    (0.69, 0.48, 0.34), (0.56, 0.37, 0.26), (0.43, 0.28, 0.20),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (0.07, 0.06, 0.06), (0.16, 0.10, 0.07), (0.27, 0.17, 0.10), (0.42, 0.27, 0.15),
    (0.66, 0.50, 0.29), (0.45, 0.18, 0.09), (0.58, 0.57, 0.56),
)  # fmt: skip
EYES: tuple[Colour, ...] = (
    (0.22, 0.13, 0.07), (0.34, 0.22, 0.11), (0.30, 0.36, 0.22), (0.30, 0.42, 0.55),
)  # fmt: skip
# The variants of espeak-ng that a speech recogniser understood best.
LOW_VOICES = ("m1", "m5", "m6", "m7", "m8", "Alex", "Michael", "Mike", "max", "rob", "robert",
              "victor")  # fmt: skip
HIGH_VOICES = ("f2", "f5", "Annie", "anika", "steph", "steph2")
ACCENTS = ("en-us", "en-us", "en", "en-gb-x-rp")


@dataclass(frozen=True)
class Face:
    """The shape and look of a head; lengths in units of the canonical plane (see head.py)."""

    width: float  # half the width at the cheekbones
    taper: float  # how much narrower the chin is
    chin: float  # y of the chin
    eye_x: float
    eye_size: float
    eye_tilt: float  # how much higher the outer corner lies
    brow_y: float
    brow_thickness: float
    nose_width: float
    nose_height: float
    mouth_y: float
    mouth_width: float  # half the width at rest
    lips: float  # thickness of the lips, 1 is the average
    folds: float  # depth of wrinkles and folds: age
    stubble: float  # 0 to 1
    skin: Colour
    hair: Colour
    eyes: Colour
    style: str  # of the hair
    hairline: float  # y of its middle
    seed: int  # of the strands of the hair


@dataclass(frozen=True)
class Scene:
    """What surrounds a head: pose at rest (radians, units of the plane), light, colours."""

    yaw: float
    pitch: float
    roll: float
    scale: float  # pixels a unit in a picture 192 pixels wide
    light: tuple[float, float, float]  # direction to the light: right, down, towards the viewer
    strength: float  # of that light, against the ambient one
    background: Colour
    clothes: Colour


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice and what it speaks like when it is neutral."""

    name: str
    pitch: int  # 0 to 99
    range: int  # 0 to 99
    rate: int  # words a minute
    formants: float  # factor on all resonances: the length of the vocal tract
    gain: float  # dB


@dataclass(frozen=True)
class Person:
    """One synthetic identity."""

    name: str
    face: Face
    scene: Scene
    voice: Voice


def make_person(name: str, seed: int, index: int) -> Person:
    """Return identity number `index` of the data set made with `seed`."""
    rng = np.random.default_rng([seed, 1, index])
    deep = bool(index % 2)  # deep voices go with heavier brows and, in half of them, a beard
    return Person(name, _face(rng, deep), _scene(rng), _voice(rng, deep, index // 2))


def _face(rng: Generator, deep: bool) -> Face:
    styles = ("short", "short", "parted", "receding") if deep else ("long", "long", "bob", "parted")
    tone = int(rng.integers(len(SKINS)))
    hair = int(rng.integers(len(HAIRS) if tone < 4 else 3))
    return Face(
        width=rng.uniform(0.71, 0.79) + 0.02 * deep,
        taper=rng.uniform(0.16, 0.34) - 0.06 * deep,
        chin=rng.uniform(0.98, 1.05),
        eye_x=rng.uniform(0.305, 0.335),
        eye_size=rng.uniform(0.92, 1.10) - 0.04 * deep,
        eye_tilt=rng.uniform(-0.004, 0.022),
        brow_y=rng.uniform(-0.30, -0.265) + 0.015 * deep,
        brow_thickness=rng.uniform(0.7, 1.1) + 0.25 * deep,
        nose_width=rng.uniform(0.85, 1.2),
        nose_height=rng.uniform(0.8, 1.2),
        mouth_y=rng.uniform(0.575, 0.62),
        mouth_width=rng.uniform(0.235, 0.275),
        lips=rng.uniform(0.85, 1.25) - 0.12 * deep,
        folds=rng.uniform(0.5, 1.1),
        stubble=rng.uniform(0.2, 0.6) * (deep and rng.random() < 0.5),
        skin=_near(rng, SKINS[tone], 0.03),
        hair=_near(rng, HAIRS[hair], 0.02),
        eyes=EYES[int(rng.integers(len(EYES)))],
        style=styles[int(rng.integers(len(styles)))],
        hairline=rng.uniform(-0.72, -0.60),
        seed=int(rng.integers(1 << 30)),
    )


def _scene(rng: Generator) -> Scene:
    side, height = rng.uniform(-0.7, 0.7), rng.uniform(-0.75, -0.25)
    light = np.array([side, height, 0.8])
    light /= np.linalg.norm(light)
    return Scene(
        yaw=rng.uniform(-0.16, 0.16),
        pitch=rng.uniform(-0.06, 0.06),
        roll=rng.uniform(-0.05, 0.05),
        scale=rng.uniform(60.0, 67.0),
        light=(float(light[0]), float(light[1]), float(light[2])),
        strength=rng.uniform(0.45, 0.75),
        background=_near(rng, (0.55, 0.58, 0.62), 0.12),
        clothes=_near(rng, (0.32, 0.34, 0.38), 0.20),
    )


def _voice(rng: Generator, deep: bool, index: int) -> Voice:
    variants = LOW_VOICES if deep else HIGH_VOICES
    accent = ACCENTS[int(rng.integers(len(ACCENTS)))]
    return Voice(
        name=f"{accent}+{variants[index % len(variants)]}",
        pitch=int(rng.integers(36, 56)),
        range=int(rng.integers(38, 58)),
        rate=int(rng.integers(150, 181)),
        formants=rng.uniform(0.94, 1.06),
        gain=rng.uniform(-2.0, 2.0),
    )


def _near(rng: Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0.03, 0.97)
    return float(red), float(green), float(blue)
