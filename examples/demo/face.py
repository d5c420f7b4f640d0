"""Draws a head whose muscles move: FACS action units in, RGB pictures out.

An own renderer: colours and relief of a head at rest (head.py) are moved by action units on the
canonical plane, shaded, and projected with the pose by inverse warping. Nothing in it was fitted
to, or compared with, a net that recognises expressions.

Actions follow P. Ekman, W. Friesen, J. Hager, "Facial Action Coding System" (2002): 1 inner brow
raiser, 2 outer brow raiser, 4 brow lowerer, 5 upper lid raiser, 6 cheek raiser, 7 lid tightener,
9 nose wrinkler, 10 upper lip raiser, 12 lip corner puller, 15 lip corner depressor, 17 chin raiser,
18 lip pucker, 20 lip stretcher, 23 lip tightener, 25 lips part, 26 jaw drop, 43 eyes closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from head import EYE_Y, SIDE, TOP, UNIT, Head, Map, bump, edge, mix, profile
from numpy.typing import NDArray
from people import Colour, Face
from stage import Pose, Stage, project

Units = Mapping[int, float]  # strength of each action unit, 0 to 1; absent is 0
BROWS, EYES, LIPS = (-0.50, -0.12), (-0.26, 0.14), (0.36, 1.02)  # rows of the plane they reach


@dataclass(frozen=True)
class Shot:
    """One frame: what the face does and where it looks."""

    units: Units
    pose: Pose
    gaze: tuple[float, float] = (0.0, 0.0)  # of the iris, in units of the plane


@dataclass(frozen=True, eq=False)
class Mouth:
    """The curves of the lips over `t`, -1 at one corner and 1 at the other."""

    t: Map
    top: Map  # upper edge of the upper lip
    upper: Map  # lower edge of the upper lip
    lower: Map  # upper edge of the lower lip
    bottom: Map  # lower edge of the lower lip
    teeth: float  # how far the upper teeth reach below the upper lip


def draw(head: Head, stage: Stage, shot: Shot) -> NDArray[np.uint8]:
    """Return the picture of one frame, ``(PICTURE, PICTURE, 3)`` RGB."""
    units = defaultdict(float, shot.units)
    face, x, y = head.face, head.x, head.y
    colour, alpha, depth = _jaw(head, units)
    brows, eyes, lips = (_rows(*band) for band in (BROWS, EYES, LIPS))
    mouth = _mouth(face, x[lips], units)
    depth[lips] += _lip_relief(mouth, y[lips])
    depth += _relief(head, units)
    colour[lips] = _lips(face, mouth, y[lips], colour[lips])
    colour[brows] = _brows(face, x[brows], y[brows], colour[brows], units)
    light = _light(depth, stage.light, stage.strength)
    colour *= light[..., None]
    colour[lips] = _mouth_inside(mouth, y[lips], colour[lips], light[lips])
    colour[eyes] = _eyes(face, x[eyes], y[eyes], colour[eyes], light[eyes], units, shot.gaze)
    return project(head, stage, shot.pose, colour, alpha)


def _rows(top: float, bottom: float) -> slice:
    return slice(round((top - TOP) * UNIT), round((bottom - TOP) * UNIT))


def _jaw(head: Head, units: Units) -> tuple[Map, Map, Map]:
    """Return colour, opacity and depth with the lower face moved down by the jaw."""
    drop = 0.14 * units[26] - 0.02 * units[17]
    y = head.y[:, 0]
    ramp = np.clip((y - head.face.mouth_y + 0.02) / 0.34, 0, 1)
    rows = (y - drop * ramp * ramp * (3 - 2 * ramp) - TOP) * UNIT
    first = np.clip(rows.astype(np.int64), 0, SIDE - 2)
    share = np.clip(rows - first, 0, 1).astype(np.float32)[:, None]

    def moved(field: Map) -> Map:
        weight = share[..., None] if field.ndim == 3 else share
        rows: Map = field[first] * (1 - weight) + field[first + 1] * weight
        return rows

    return moved(head.colour), moved(head.alpha), moved(head.depth)


def _mouth(face: Face, x: Map, u: Units) -> Mouth:
    stretch = 1 + 0.30 * u[12] + 0.22 * u[20] - 0.12 * u[23] - 0.30 * u[18] - 0.16 * u[26]
    t = x / (face.mouth_width * stretch)
    at = np.clip(np.abs(t), 0, 1)
    arch, dome = 1 - at**2, np.sqrt(1 - at**2)
    corner = -0.125 * u[12] + 0.11 * u[15] + 0.02 * u[20]
    line = face.mouth_y + corner * at**2.2 - 0.02 * u[17] - 0.004 * np.cos(6 * at) * arch
    thin = 1 - 0.55 * u[23] - 0.25 * u[12] - 0.25 * u[20] - 0.2 * u[17]
    full = 0.052 * face.lips * max(thin, 0.2)
    upper = line - (0.020 * u[25] + 0.045 * u[10] + 0.012 * u[12] + 0.02 * u[26]) * dome
    lower = line + (0.035 * u[25] + 0.160 * u[26]) * dome
    teeth = 0.022 + 0.030 * u[12] + 0.022 * u[20] + 0.025 * u[10] + 0.012 * u[26]
    bow = 1 - 0.22 * profile(t, 0.09) - 0.25 * at
    top = upper - full * bow * dome - 0.008 * u[10]
    return Mouth(t, top, upper, lower, lower + 1.3 * full * arch**0.6, teeth)


def _lips(face: Face, mouth: Mouth, y: Map, colour: Map) -> Map:
    inside = edge(mouth.bottom - y, 0.014) * edge(y - mouth.top, 0.014)
    inside = inside * edge(1 - np.abs(mouth.t), 0.06)
    return mix(colour, _tinted(face.skin, (0.86, 0.56, 0.56)), 0.85 * inside)


def _tinted(colour: Colour, tint: Colour) -> Colour:
    return colour[0] * tint[0], colour[1] * tint[1], colour[2] * tint[2]


def _lip_relief(mouth: Mouth, y: Map) -> Map:
    """Return the depth of the lips: two rounded ridges that end at the corners."""
    wide = np.sqrt(np.clip(1 - mouth.t**2, 0, 1))
    ridges = np.zeros_like(y)
    for above, below, height in (
        (mouth.top, mouth.upper, 0.035),
        (mouth.lower, mouth.bottom, 0.050),
    ):
        half = 0.5 * (below - above) + 0.008
        ridges += height * wide * profile((y - 0.5 * (above + below)) / half, 0.75)
    return ridges


def _mouth_inside(mouth: Mouth, y: Map, colour: Map, light: Map) -> Map:
    """Return the picture with the seam between the lips, or what lies behind them."""
    within = edge(1 - np.abs(mouth.t), 0.05)
    seam = within * profile(y - 0.5 * (mouth.upper + mouth.lower), 0.010)
    colour = mix(colour, (0.20, 0.08, 0.07), 0.75 * seam)
    gap = edge(y - mouth.upper, 0.010) * edge(mouth.lower - y, 0.010) * within
    behind = np.broadcast_to(np.array([0.16, 0.05, 0.05], np.float32), colour.shape)
    tongue = edge(y - mouth.lower + 0.045, 0.03) * edge(0.7 - np.abs(mouth.t), 0.2)
    behind = mix(behind, (0.50, 0.22, 0.22), tongue)
    teeth = edge(mouth.upper + mouth.teeth - y, 0.012) * edge(0.84 - np.abs(mouth.t), 0.14)
    shade = (0.38 + 0.42 * light)[..., None] * np.array([0.93, 0.90, 0.85], np.float32)
    return mix(colour, mix(behind, shade, teeth), gap)


def _brows(face: Face, x: Map, y: Map, colour: Map, units: Units) -> Map:
    inner, outer, lower = units[1], units[2], units[4]
    start = 0.135 - 0.045 * lower
    s = (np.abs(x) - start) / (0.555 - start)
    at = np.clip(s, 0, 1)
    lift = 0.105 * inner * (1 - at) ** 1.6 + 0.105 * outer * at**0.8 * (1.25 - 0.6 * at)
    fall = lower * (0.085 * (1 - at) ** 1.2 + 0.030)
    rest = face.brow_y - 0.045 * np.sin(np.pi * (0.75 * at + 0.05)) + 0.03 * at**3
    offset = (y - (rest - lift + fall)) / (0.036 * face.brow_thickness * (1 - 0.6 * at))
    strength = np.exp(-(np.abs(offset) ** 3)) * edge(s, 0.06) * edge(1 - s, 0.10)
    tone = 0.7 * np.asarray(face.hair) + 0.08 * np.asarray(face.skin)
    return mix(colour, tone, 0.9 * strength)


def _relief(head: Head, u: Units) -> Map:
    """Return the depth that wrinkles and bulges add."""
    strengths = {
        "forehead": max(u[1], u[2]),
        "frown": u[4],
        "cheek": 0.6 * u[6] + 0.5 * u[12],
        "fold": min(0.8 * u[12] + 0.5 * u[10] + 0.3 * u[15] + 0.3 * u[9], 1.2),
        "eye": max(u[6], 0.5 * u[7]),
        "chin": u[17] + 0.3 * u[15],
        "nose": u[9] + 0.4 * u[10],
    }
    extra = np.zeros_like(head.depth)
    for name, strength in strengths.items():
        if strength > 0.01:
            extra += np.float32(strength) * head.relief[name]
    return extra


def _light(depth: Map, light: tuple[float, float, float], strength: float) -> Map:
    """Return the brightness of each cell: Lambert, ambient occlusion, a soft highlight."""
    depth = cv2.GaussianBlur(depth, (0, 0), 1.0)
    right = cv2.Sobel(depth, cv2.CV_32F, 1, 0, scale=UNIT / 8)
    down = cv2.Sobel(depth, cv2.CV_32F, 0, 1, scale=UNIT / 8)
    norm = 1 / np.sqrt(1 + right**2 + down**2)
    lx, ly, lz = light
    facing = np.maximum((lz - lx * right - ly * down) * norm, 0)
    hollow = depth - cv2.blur(cv2.blur(depth, (15, 15)), (15, 15))
    occlusion = np.clip(1 + 3.0 * hollow, 0.55, 1.12)
    half = (lx**2 + ly**2 + (lz + 1) ** 2) ** -0.5  # scales light + view to the half vector
    mirrored = np.maximum((lz + 1 - lx * right - ly * down) * norm * half, 0)
    gloss = 0.10 * strength * mirrored**24
    ambient = (1.02 - 0.75 * strength) * (0.6 + 0.4 * norm)
    lit: Map = (ambient + strength * facing) * occlusion + gloss
    return lit


def _eyes(
    face: Face,
    x: Map,
    y: Map,
    colour: Map,
    light: Map,
    units: Units,
    gaze: tuple[float, float],
) -> Map:
    """Return the picture with eyeballs, irises, lids and lashes."""
    side = np.where(x < 0, np.float32(-1), np.float32(1))
    along = (np.abs(x) - face.eye_x) / (0.138 * face.eye_size)  # -1 inner corner, 1 outer corner
    upper, lower = _lids(face, along, units)
    within = edge(1 - np.abs(along), 0.05)
    opening = edge(y - upper, 0.010) * edge(lower - y, 0.010) * within
    shade = (0.38 + 0.52 * light) * (0.62 + 0.38 * edge(y - upper - 0.022, 0.03))
    ball = shade[..., None] * np.array([0.95, 0.93, 0.91], np.float32)
    ball = mix(ball, (0.72, 0.45, 0.42), 0.5 * bump(along + 1, y - EYE_Y, 0.16, 0.04))
    ball = _iris(face, x - side * (face.eye_x - 0.005) - gaze[0], y - EYE_Y - gaze[1], ball)
    colour = mix(colour, ball, opening)
    lash = profile(y - upper + 0.004, 0.012) * edge(1.08 - np.abs(along), 0.08)
    rim = profile(y - lower - 0.006, 0.009) * within
    crease = profile(y - upper + 0.042, 0.010) * edge(0.95 - np.abs(along), 0.2)
    colour = mix(colour, (0.07, 0.05, 0.05), 0.85 * lash)
    return colour * (1 - 0.30 * rim - 0.28 * crease)[..., None]


def _iris(face: Face, dx: Map, dy: Map, ball: Map) -> Map:
    radius = np.sqrt(dx**2 + dy**2)
    iris = (0.55 + 0.75 * edge(dy, 0.06))[..., None] * np.asarray(face.eyes, np.float32)
    iris = mix(iris, (0.03, 0.02, 0.02), edge(radius - 0.060, 0.010))
    iris = mix(iris, (0.02, 0.02, 0.02), edge(0.030 - radius, 0.006))
    ball = mix(ball, iris, edge(0.068 - radius, 0.008))
    return mix(ball, (1.0, 1.0, 1.0), 0.9 * bump(dx - 0.02, dy + 0.024, 0.012, 0.012))


def _lids(face: Face, along: Map, u: Units) -> tuple[Map, Map]:
    """Return y of the upper and of the lower lid."""
    at = np.clip(np.abs(along), 0, 1)
    dome, size = 1 - at**2.2, face.eye_size
    centre = EYE_Y + 0.012 - face.eye_tilt * along
    opened = 1 + 0.75 * u[5] - 0.22 * u[7] - 0.12 * u[6] - 0.10 * u[4]
    rise = 0.062 * size * opened * (1 - u[43]) - 0.029 * size * u[43]
    fall = 0.036 * size * (1 - 0.55 * u[6] - 0.45 * u[7] + 0.15 * u[5])
    slant = 0.016 * u[1] * u[4] * np.clip(along, -1, 1)  # the triangular lid of sorrow
    upper = centre - (rise - slant) * dome
    lower = centre + max(fall, 0.006) * (1 - at**2)
    return upper, np.maximum(lower, upper)
