"""What a face does in a clip: expression, blinks, speech and sway, frame by frame.

Each emotion is a prototype of FACS action units after EMFACS (W. Friesen, P. Ekman, 1983) and
the tables of Ekman, Friesen, Hager (2002), "Facial Action Coding System: Investigator's Guide",
ch. 12: anger 4+5+7+23, happiness 6+12, sadness 1+4+15(+17), fear 1+2+4+5+7+20+25, surprise
1+2+5+26. `worried` is fear of low arousal: 1+4 stronger than 2, less of 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from face import Shot, Units
from head import Map
from numpy.random import Generator
from stage import Pose

FPS = 12.5

# Strength at full intensity, and how probable it is that the unit takes part.
Prototype = Mapping[int, tuple[float, float]]
PROTOTYPES: Mapping[str, Prototype] = MappingProxyType({
    "neutral": {},
    "angry": {4: (1.0, 1.0), 5: (0.6, 0.8), 7: (0.8, 0.9), 9: (0.5, 0.2), 10: (0.5, 0.4),
              17: (0.4, 0.3), 23: (0.9, 0.9)},
    "happy": {6: (0.9, 0.9), 12: (1.0, 1.0), 25: (0.6, 0.7)},
    "sad": {1: (1.0, 0.95), 4: (0.6, 0.8), 15: (1.0, 1.0), 17: (0.6, 0.6), 43: (0.30, 0.7)},
    "worried": {1: (0.9, 1.0), 2: (0.45, 0.8), 4: (0.7, 0.95), 5: (0.6, 0.8), 7: (0.4, 0.4),
                20: (1.0, 0.9), 25: (0.5, 0.6)},
    "surprise": {1: (0.9, 1.0), 2: (1.0, 1.0), 5: (1.0, 0.95), 25: (0.6, 0.9), 26: (0.7, 0.9)},
})  # fmt: skip
# Pitch and roll of the head at full intensity, radians.
CARRIAGE: Mapping[str, tuple[float, float]] = MappingProxyType({
    "neutral": (0.0, 0.0), "angry": (0.04, 0.0), "happy": (-0.03, 0.05), "sad": (0.10, 0.04),
    "worried": (0.02, 0.03), "surprise": (-0.06, 0.0),
})  # fmt: skip


def perform(label: str, intensity: float, speech: Map, rng: Generator) -> list[Shot]:
    """Return one shot a frame of somebody who speaks with an emotion.

    `intensity` is that of the expression, 0 to 1; `speech` the loudness of each frame, 0 to 1.
    """
    seconds = np.arange(len(speech)) / FPS
    units = _expression(label, intensity, rng)
    onset = _envelope(seconds, rng)
    blink = _blinks(seconds, label, rng)
    mouth = _articulation(speech, rng)
    sway = _sway(seconds, rng)
    pitch, roll = (intensity * angle for angle in CARRIAGE[label])
    roll *= float(rng.choice([-1.0, 1.0]))
    gaze = rng.normal(0, 0.006, 2) + np.array([0.0, 0.016 * intensity * (label == "sad")])
    shots = []
    for i in range(len(speech)):
        spoken = {unit: strength[i] for unit, strength in mouth.items()}
        now = _together({unit: onset[i] * units[unit] for unit in units}, spoken, blink[i])
        pose = Pose(sway[0, i], pitch * onset[i] + sway[1, i], roll * onset[i] + sway[2, i])
        shots.append(Shot(now, pose, (gaze[0] - 0.12 * sway[0, i], gaze[1])))
    return shots


def _together(units: dict[int, float], spoken: dict[int, float], blink: float) -> Units:
    """Return what expression, speech and blink do at once."""
    now = {unit: min(units.get(unit, 0.0) + spoken.get(unit, 0.0), 1.0) for unit in units | spoken}
    return now | {43: max(now.get(43, 0.0), blink)}


def _expression(label: str, intensity: float, rng: Generator) -> dict[int, float]:
    """Return the units at the apex: the prototype with parts left out, and what is meaningless."""
    units = dict.fromkeys((1, 2, 4, 5, 6, 7, 12, 15, 17, 20), 0.0)
    for unit in units:
        units[unit] = max(rng.normal(0, 0.10), 0.0)
    for unit, (strength, chance) in PROTOTYPES[label].items():
        if rng.random() < chance:
            units[unit] = units.get(unit, 0.0) + intensity * strength * rng.uniform(0.75, 1.15)
    return {unit: min(strength, 1.0) for unit, strength in units.items()}


def _envelope(seconds: Map, rng: Generator) -> Map:
    """Return onset, apex and the beginning of the offset, 0 to 1."""
    start, rise = rng.uniform(-0.2, 0.35), rng.uniform(0.25, 0.55)
    up = np.clip((seconds - start) / rise, 0, 1)
    fade = np.clip((seconds - seconds[-1] + 0.4) / 0.6, 0, 1) * rng.uniform(0, 0.6)
    envelope: Map = up * up * (3 - 2 * up) * (1 - fade)
    return envelope


def _blinks(seconds: Map, label: str, rng: Generator) -> Map:
    """Return the closing of the lids: 0.2 s a blink, 15 to 20 a minute, fewer in surprise."""
    closed = np.zeros(len(seconds))
    for _ in range(rng.poisson(seconds[-1] * (0.1 if label == "surprise" else 0.3))):
        offset = (seconds - rng.uniform(0, seconds[-1])) / 0.10
        closed = np.maximum(closed, np.clip(1.3 - np.abs(offset), 0, 1))
    return closed


def _articulation(speech: Map, rng: Generator) -> dict[int, Map]:
    """Return jaw, parted and pursed lips: as loud as the speech, with vowels at random."""
    smooth = np.convolve(speech, [0.2, 0.6, 0.2], "same")
    vowels = rng.uniform(0.3, 1.0, len(speech))
    return {
        26: 0.55 * smooth * vowels,
        25: 0.7 * smooth,
        18: 0.35 * smooth * (1 - vowels),
    }


def _sway(seconds: Map, rng: Generator) -> Map:
    """Return ``(3, frames)`` slow turns: yaw, pitch, roll in radians."""
    phase, speed = rng.uniform(0, 2 * np.pi, (3, 1)), rng.uniform(1.5, 3.5, (3, 1))
    size = rng.uniform(0.2, 1.0, (3, 1)) * np.array([[0.06], [0.035], [0.025]])
    turns: Map = size * np.sin(speed * seconds + phase)
    return turns
