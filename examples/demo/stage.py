"""What surrounds a head, and how a posed head gets into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from head import LEFT, TOP, UNIT, Head, Map, edge, mix
from numpy.typing import NDArray
from people import Face, Scene

PICTURE = 192  # pixels a side
PIVOT = np.array([0.0, 0.9, -0.35], np.float32)  # the neck stays where it is while the head turns
NECK = 0.98  # y of the pivot in the picture, in units below its middle


@dataclass(frozen=True)
class Pose:
    """Turn of the head in radians, on top of the one at rest."""

    yaw: float = 0.0  # positive to the picture's right
    pitch: float = 0.0  # positive down
    roll: float = 0.0  # positive clockwise


@dataclass(frozen=True, eq=False)
class Stage:
    """The scene of one identity, with what does not move painted."""

    scene: Scene
    backdrop: Map  # (PICTURE, PICTURE, 3) in [0, 1]

    @property
    def light(self) -> tuple[float, float, float]:
        """The direction to the light."""
        return self.scene.light

    @property
    def strength(self) -> float:
        """The strength of the light against the ambient one."""
        return self.scene.strength


def make_stage(face: Face, scene: Scene) -> Stage:
    """Return wall, shoulders and neck of an identity."""
    axis = (np.arange(PICTURE, dtype=np.float32) - PICTURE / 2) / np.float32(scene.scale)
    x, y = np.meshgrid(axis, axis)
    side = np.sign(scene.light[0]) * x
    wall = (1 + 0.07 * side - 0.05 * y)[..., None] * np.asarray(scene.background, np.float32)
    cloth = (1 - 0.16 * x**2 + 0.12 * side)[..., None] * np.asarray(scene.clothes, np.float32)
    shoulders = 1.16 + 0.30 * np.clip(np.abs(x) - 0.3, 0, 2) ** 1.5
    picture = mix(wall, cloth, edge(y - shoulders, 0.02))
    wide = 0.53 * face.width + 0.16 * np.clip(y - 0.95, 0, 1) ** 2
    neck = edge(wide - np.abs(x), 0.02) * edge(y - 0.4, 0.02) * edge(1.26 - 0.6 * x**2 - y, 0.02)
    curve = 0.50 + 0.22 * np.sqrt(np.maximum(1 - (x / wide) ** 2, 0)) + 0.18 * side
    under_chin = 1 - 0.35 * edge(1.10 - y, 0.12)
    skin = (curve * under_chin)[..., None] * np.asarray(face.skin, np.float32)
    return Stage(scene, mix(picture, skin, neck))


def project(head: Head, stage: Stage, pose: Pose, colour: Map, alpha: Map) -> NDArray[np.uint8]:
    """Return the picture of the posed head before its scene.

    Orthographic. The depth under a pixel is not known before its cell is, so both are found by
    iteration; four rounds are exact to a tenth of a pixel for turns below 0.35 radians.
    """
    scene = stage.scene
    turn = scene.scale * _rotation(
        scene.yaw + pose.yaw, scene.pitch + pose.pitch, scene.roll + pose.roll
    )
    origin = np.array([0.5 * PICTURE, 0.5 * PICTURE + NECK * scene.scale]) - turn[:2] @ PIVOT
    column, row = np.meshgrid(*(np.arange(PICTURE, dtype=np.float32),) * 2)
    (a, b), (c, d) = np.linalg.inv(turn[:2, :2]) * np.float32(UNIT)
    u, v = column - np.float32(origin[0]), row - np.float32(origin[1])
    x, y = a * u + b * v - LEFT * UNIT, c * u + d * v - TOP * UNIT  # cells, if all were at z = 0
    slide_x, slide_y = np.array([[a, b], [c, d]]) @ turn[:2, 2]
    at = x, y
    for _ in range(4):
        z = cv2.remap(head.smooth, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        at = x - slide_x * z, y - slide_y * z
    layers = np.dstack([colour * alpha[..., None], alpha])
    # Cells are smaller than pixels: a little blur keeps edges from flickering.
    posed = cv2.remap(cv2.GaussianBlur(layers, (0, 0), 0.6), *at, cv2.INTER_LINEAR)
    picture = stage.backdrop * (1 - posed[..., 3:]) + posed[..., :3]
    rgb: NDArray[np.uint8] = np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)
    return rgb


def _rotation(yaw: float, pitch: float, roll: float) -> Map:
    """Return the rotation about the vertical, then the horizontal, then the line of sight."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: Map = (about_z @ about_x @ about_y).astype(np.float32)
    return turned
