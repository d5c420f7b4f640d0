"""The parts of a head that do not move by themselves, painted once for an identity.

Canonical plane: x to the right, y down, z towards the viewer, in units of about half a head. The
eyes lie at y = -0.05, the mouth at 0.6, the chin at about 1.0, the crown at -1.15. A head is a
relief over this plane: ``SIDE`` x ``SIDE`` cells of colour, opacity and depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from people import Face

Map = NDArray[Any]  # float32, which type checkers lose sight of in mixed arithmetic

SIDE = 256  # cells
LEFT, TOP, UNIT = -1.3, -1.42, SIDE / 2.6  # of the plane's first cell; cells a unit
EYE_Y = -0.05
CROWN = 1.15
LONG = ("bob", "long")
VOLUME = {  # of the hair by style: how much wider and higher than the head
    "short": (1.06, 1.05),
    "receding": (1.03, 1.02),
    "parted": (1.09, 1.08),
    "bob": (1.20, 1.10),
    "long": (1.22, 1.09),
}


@dataclass(frozen=True, eq=False)
class Head:
    """One head at rest; maps are ``(SIDE, SIDE)`` float32."""

    face: Face
    x: Map
    y: Map
    colour: Map  # (SIDE, SIDE, 3)
    alpha: Map  # opacity
    skin: Map  # 1 where the skin is bare, 0 under hair
    depth: Map  # z
    smooth: Map  # z without detail, for the change of pose
    relief: Mapping[str, Map]  # z that an action adds at full strength


def edge(signed: Map, width: float = 0.012) -> Map:
    """Return 1 where `signed` is above `width`, 0 below ``-width``, smooth between."""
    t = np.clip(signed * np.float32(0.5 / width) + np.float32(0.5), 0, 1)
    smooth: Map = t * t * (3 - 2 * t)
    return smooth


def bump(u: Map, v: Map, wide: float, high: float) -> Map:
    """Return a Gaussian of height 1 at (0, 0), with standard deviations `wide` and `high`."""
    bell: Map = np.exp(-0.5 * ((u / wide) ** 2 + (v / high) ** 2)).astype(np.float32)
    return bell


def profile(u: Map, wide: float) -> Map:
    """Return a Gaussian of height 1 at 0, with standard deviation `wide`."""
    bell: Map = np.exp(-0.5 * (u / wide) ** 2).astype(np.float32)
    return bell


def mix(base: Map, colour: ArrayLike, weight: Map) -> Map:
    """Return the picture `base` with `colour` laid over it where `weight` is 1."""
    mixed: Map = base + (np.asarray(colour, np.float32) - base) * weight[..., None]
    return mixed


def make_head(face: Face) -> Head:
    """Return the head of an identity."""
    axis = np.arange(SIDE, dtype=np.float32) / np.float32(UNIT)
    x, y = np.meshgrid(axis + np.float32(LEFT), axis + np.float32(TOP))
    radius = _radius(face, x, y)
    strands = _strands(face)
    hair, bare = _hair(face, x, y, radius, strands)
    smooth = 0.62 * np.maximum(1 - radius**2, -0.4) + 0.5 * _nose(face, x, y)
    # Hair has a roundness of its own; the soft border keeps its edge from catching the light.
    soft = _blurred(hair, 2.5)
    depth = _depth(face, x, y, radius) * (1 - soft)
    depth += (_skull(_radius(face, x / 1.25, y / 1.15)) + 0.03 * strands - 0.06) * soft
    colour = _skin(face, x, y, radius)
    tone = np.asarray(face.hair, np.float32) * (0.75 + 0.5 * strands)[..., None]
    colour = colour + (tone - colour) * hair[..., None]
    open_ears = face.style not in LONG
    ears = open_ears * edge(
        1 - np.hypot((np.abs(x) - face.width - 0.01) / 0.09, (y - 0.06) / 0.19), 0.08
    )
    alpha = np.maximum(np.maximum(edge(1 - radius, 0.016), ears), hair)
    skin = edge(1 - radius, 0.03) * bare
    relief = {name: field * skin for name, field in _relief(face, x, y).items()}
    return Head(face, x, y, colour, alpha, skin, depth, _blurred(smooth, 3.0), relief)


def _radius(face: Face, x: Map, y: Map) -> Map:
    """Return 1 on the outline of the face, less inside."""
    taper = 1 - face.taper * np.clip((y - 0.05) / (face.chin - 0.05), 0, 1) ** 1.6
    wide = np.abs(x) / (face.width * taper)
    high = np.where(y < 0, -y / CROWN, np.maximum(y, 0) / face.chin)
    power = np.where(y < 0, 2.1, 2.5)
    radius: Map = ((wide**power + high**power) ** (1 / power)).astype(np.float32)
    return radius


def _nose(face: Face, x: Map, y: Map) -> Map:
    along = np.clip((y + 0.12) / 0.45, 0, 1)
    width = (0.055 + 0.05 * along) * face.nose_width
    ridge = np.exp(-0.5 * (x / width) ** 2) * (0.04 + 0.17 * along**1.3)
    end = edge(0.365 - y, 0.06) * edge(y + 0.16, 0.10)
    tip = 0.07 * bump(x, y - 0.29, 0.075, 0.06)
    wings = 0.085 * bump(np.abs(x) - 0.115 * face.nose_width, y - 0.315, 0.042, 0.045)
    nose: Map = (face.nose_height * (ridge * end + tip + wings)).astype(np.float32)
    return nose


def _skull(radius: Map) -> Map:
    skull: Map = 0.66 * (1 - np.minimum(radius, 1) ** 2.3) ** 0.62
    return skull


def _depth(face: Face, x: Map, y: Map, radius: Map) -> Map:
    ax = np.abs(x)
    sockets = -0.085 * bump(ax - 0.9 * face.eye_x, y - EYE_Y + 0.02, 0.13, 0.085)
    brows = 0.04 * bump(ax - 0.27, y - face.brow_y - 0.02, 0.20, 0.06)
    cheeks = 0.05 * bump(ax - 0.43, y - 0.20, 0.15, 0.15)
    chin = 0.05 * bump(x, y - face.chin + 0.13, 0.13, 0.085)
    below_lip = -0.03 * bump(x, y - face.mouth_y - 0.16, 0.15, 0.04)
    muzzle = 0.05 * bump(x, y - face.mouth_y, 0.24, 0.16)
    philtrum = -0.012 * bump(x, y - face.mouth_y + 0.14, 0.022, 0.05)
    depth = _skull(radius) + _nose(face, x, y) + muzzle + philtrum
    depth += sockets + brows + cheeks + chin + below_lip
    return depth + 0.012 * face.folds * _fold(face, x, y)


def _fold(face: Face, x: Map, y: Map) -> Map:
    """Return the crease from the wings of the nose to beside the corners of the mouth."""
    along = np.clip((y - 0.30) / (face.mouth_y + 0.04 - 0.30), 0, 1)
    centre = 0.165 + 0.20 * along**0.8
    inside = edge(y - 0.27, 0.06) * edge(face.mouth_y + 0.07 - y, 0.08)
    offset = np.abs(x) - centre
    fold: Map = (bump(offset - 0.055, 0 * y, 0.05, 1) - bump(offset, 0 * y, 0.02, 1)) * inside
    return fold


def _relief(face: Face, x: Map, y: Map) -> dict[str, Map]:
    """Return the wrinkles and bulges by name, in units of depth at full strength."""
    ax = np.abs(x)
    across = np.sin((y - face.brow_y) * 48).astype(np.float32)
    crow = np.sin((y - EYE_Y) * 70).astype(np.float32) * bump(ax - 0.56, y - EYE_Y, 0.05, 0.05)
    below_eye = np.abs(y - EYE_Y - 0.125 - 0.4 * (ax - face.eye_x) ** 2).astype(np.float32)
    under = bump(below_eye, ax - face.eye_x, 0.014, 0.10)
    return {
        "forehead": 0.010 * face.folds * across * bump(x, y - face.brow_y + 0.24, 0.30, 0.09),
        "frown": -0.030 * (0.5 + face.folds) * bump(ax - 0.045, y - face.brow_y, 0.014, 0.07),
        "cheek": 0.070 * bump(ax - 0.41, y - 0.19, 0.12, 0.09),
        "fold": 0.035 * (0.5 + face.folds) * _fold(face, x, y),
        "eye": 0.010 * face.folds * crow - 0.014 * under,
        "chin": 0.030 * bump(x, y - face.chin + 0.17, 0.10, 0.06),
        "nose": -0.012 * bump(np.sin(y * 55), ax - 0.07, 0.35, 0.05) * bump(x, y - 0.02, 0.2, 0.07),
    }


def _skin(face: Face, x: Map, y: Map, radius: Map) -> Map:
    ax, base = np.abs(x), np.asarray(face.skin, np.float32)
    colour = np.broadcast_to(base, (SIDE, SIDE, 3))
    red = base * np.array([1.02, 0.84, 0.80], np.float32)
    flush = bump(ax - 0.42, y - 0.27, 0.14, 0.11) + 0.8 * bump(x, y - 0.30, 0.09, 0.07)
    colour = mix(colour, tuple(red), 0.5 * flush)
    around = bump(ax - face.eye_x, y - EYE_Y - 0.02, 0.14, 0.09)
    colour = mix(colour, tuple(base * np.array([0.78, 0.70, 0.68], np.float32)), 0.35 * around)
    nostrils = bump(ax - 0.062 * face.nose_width, y - 0.375, 0.024, 0.014)
    colour = mix(colour, tuple(base * 0.25), np.minimum(0.95 * nostrils, 1))
    beard = edge(y - 0.30 - 0.10 * edge(0.4 - ax, 0.2), 0.12) * edge(radius - 0.35, 0.25)
    tone = 0.55 * np.asarray(face.hair, np.float32) + 0.30 * base
    return mix(colour, tuple(tone), face.stubble * beard)


def _hair(face: Face, x: Map, y: Map, radius: Map, strands: Map) -> tuple[Map, Map]:
    """Return the opacity of the hair and of the bare skin in front."""
    ax = np.abs(x)
    wide, high = VOLUME[face.style]
    line = face.hairline + 0.55 * np.clip(ax / face.width, 0, 1.2) ** 3.2
    if face.style == "parted":
        line = line - 0.14 * profile(x - 0.22, 0.09) + 0.05 * np.sign(x - 0.22)
    if face.style == "receding":
        line = line - 0.18 * profile(ax - 0.36, 0.14) - 0.06
    outer = edge(1 - _radius(face, x / wide, (y + 0.02) / high), 0.02)
    cap = outer * edge(line - y, 0.03)
    sides = outer * edge(ax - 0.93 * face.width, 0.03)
    sides = sides * edge(0.02 - y, 0.1) * edge(y + 0.75, 0.1)
    hair = np.maximum(cap, sides)
    if face.style in LONG:
        length = (0.66 if face.style == "bob" else 0.98) + 0.1 * (strands - 0.5)
        curtain = edge(wide * face.width * (1 + 0.02 * np.sin(4 * y)) - ax, 0.03)
        throat = 0.40 + 0.35 * np.clip(0.75 - y, 0, 1)
        curtain = curtain * edge(length - y, 0.04) * edge(y, 0.05)
        beside = edge(ax - throat, 0.03) * edge(radius - 0.93 + 0.03 * strands, 0.03)
        hair = np.maximum(hair, np.maximum(curtain, outer * edge(0.02 - y)) * beside)
    bare: Map = 1 - np.maximum(cap, sides)
    return hair.astype(np.float32), bare


def _strands(face: Face) -> Map:
    """Return noise drawn out along the hair, 0 to 1."""
    noise = np.random.default_rng(face.seed).random((SIDE, SIDE), np.float32)
    drawn = cv2.GaussianBlur(noise, (0, 0), sigmaX=1.2, sigmaY=12)
    low, high = np.percentile(drawn, [1, 99])
    strands: Map = np.clip((drawn - low) / (high - low), 0, 1).astype(np.float32)
    return strands


def _blurred(field: Map, sigma: float) -> Map:
    blurred: Map = cv2.GaussianBlur(field.astype(np.float32), (0, 0), sigma)
    return blurred
