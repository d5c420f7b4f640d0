"""Frames in, upright crops of one face a frame out: find, pick, align, crop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mercore.components import Inputs, Noted
from mercore.errors import InputError
from mercore.inputs import frames_of
from mercore.media import Frames, Media
from mercore.nn import device_of
from mercore_starter._mtcnn import Candidates, Mtcnn
from mercore_starter.faces import MTCNN_WEIGHTS, MtcnnFaces

# Where the eyes (the left one of the picture first), the tip of the nose and the corners of the
# mouth go in a crop of 112 x 112: the template of ArcFace (Deng et al. 2019), used by most models
# that take aligned faces. Crops of other sizes scale it.
TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
TEMPLATE_SIDE = 112
DETAIL = 48  # pixels of the smallest face: as many as the last network looks at
CHUNK = 8  # frames searched at a time: larger passes leave the processor's cache, and are slower


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one frame, in pixels of that frame."""

    score: float
    """In (0, 1)."""
    box: NDArray[np.float64]
    """``(4,)`` left, top, right, bottom."""
    points: NDArray[np.complex128]
    """``(5,)`` as x + iy: the eyes, the tip of the nose, the corners of the mouth."""

    @property
    def area(self) -> float:
        """The area of the box, in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def turn(self) -> float:
        """How far the nose is from the middle between the eyes, along their line.

        In distances of the eyes: about 0 from the front, 0.5 where the nose is below one of them.
        """
        left, right, nose = self.points[:3]
        line = right - left
        return float(abs(((nose - (left + right) / 2) * line.conjugate()).real) / abs(line) ** 2)

    def outside(self, width: int, height: int) -> float:
        """Return the share of the box that lies outside of the frame."""
        left, top, right, bottom = np.clip(self.box, 0, (width, height, width, height))
        return float(1 - (right - left) * (bottom - top) / self.area)


class FaceCropper:
    """Crops the picked face of each frame; holds the networks."""

    def __init__(self, options: MtcnnFaces, device: str) -> None:
        self.options = options
        self.mtcnn = Mtcnn(MTCNN_WEIGHTS, device_of(device))

    def __call__(self, batch: Sequence[Inputs]) -> list[Noted[Media]]:
        """Return the crops of each sample with its record, in order."""
        # One sample a pass, so that the result never depends on the batch.
        return [self._cropped(frames_of(sample, "video")) for sample in batch]

    def _cropped(self, frames: Frames) -> Noted[Media]:
        found = self.faces(frames.pixels)
        seen = [index for index, face in enumerate(found) if face is not None]
        if not seen:
            raise InputError(self._complaint(frames))
        faces = [face for face in found if face is not None]
        crops = [
            aligned(frames.pixels[index], face.points, self.options.size, self.options.margin)
            for index, face in zip(seen, faces, strict=True)
        ]
        score = round(float(np.mean([face.score for face in faces])), 4)
        height, width = frames.pixels.shape[1:3]
        record = {
            "faces": len(seen),
            "frames": len(found),
            "score": score,
            "turn": round(float(np.mean([face.turn for face in faces])), 3),
            "outside": round(float(np.mean([face.outside(width, height) for face in faces])), 3),
        }
        return Noted(Frames(np.stack(crops), frames.times[seen]), record)

    def _complaint(self, frames: Frames) -> str:
        count, height, width = frames.pixels.shape[:3]
        smallest = math.ceil(self.options.min_face * min(height, width))
        return (
            f"mtcnn: no face in {count} frames of {width}x{height} pixels between "
            f"{frames.times[0]:.2f} and {frames.times[-1]:.2f} s, expected one at least {smallest} "
            f"pixels wide with a score above {self.options.threshold}; look at the clip, or lower "
            "'threshold' or 'min_face'"
        )

    def faces(self, pixels: NDArray[np.uint8]) -> list[Face | None]:
        """Return the picked face of each ``(frames, height, width, 3)`` picture, or None."""
        with torch.inference_mode():
            starts = range(0, len(pixels), CHUNK)
            return [f for s in starts for f in self._picked(pixels[s : s + CHUNK])]

    def _picked(self, pixels: NDArray[np.uint8]) -> Iterator[Face | None]:
        options = self.options
        images = _reduced(pixels, options.min_face)
        height, width = images.shape[2:]
        found = self.mtcnn(images, options.min_face * min(height, width), options.threshold)
        scale = np.array([pixels.shape[2] / width, pixels.shape[1] / height])
        centre = complex(pixels.shape[2], pixels.shape[1]) / 2
        for faces in _listed(found, scale):
            yield max(faces, key=lambda face: _merit(face, options.pick, centre), default=None)


def _merit(face: Face, pick: str, centre: complex) -> float:
    """Return what is greatest for the face to keep."""
    if pick == "largest":
        return face.area
    if pick == "best":
        return face.score
    left, top, right, bottom = face.box
    return -abs(complex(left + right, top + bottom) / 2 - centre)


def _reduced(pixels: NDArray[np.uint8], min_face: float) -> Tensor:
    """Return ``(frames, 3, height, width)`` uint8, small enough for the smallest face to have 48.

    More pixels would cost time and show the networks nothing more.
    """
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    height, width = images.shape[2:]
    scale = DETAIL / (min_face * min(height, width))
    if scale >= 1:
        return images
    size = [max(1, round(side * scale)) for side in (height, width)]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _listed(found: Candidates, scale: NDArray[np.float64]) -> Iterator[list[Face]]:
    """Yield the faces of each frame, `scale` times as large as they were found."""
    score, box, rest = (x.double().cpu().numpy() for x in (found.score, found.box, found.rest))
    for frame in range(len(score)):
        yield [
            Face(
                float(score[frame, k]),
                box[frame, k] * np.tile(scale, 2),
                rest[frame, k, :5] * scale[0] + 1j * rest[frame, k, 5:] * scale[1],
            )
            for k in np.flatnonzero(score[frame])
        ]


def aligned(
    pixels: NDArray[np.uint8], points: NDArray[np.complex128], size: int, margin: float
) -> NDArray[np.uint8]:
    """Return the ``(size, size, 3)`` crop in which `points` lie nearest to the template."""
    turn, shift = similarity(template(size, margin), points)
    # Pixels of the frame a pixel of the crop covers: averaged over, or fine texture would alias.
    finer = max(1, math.ceil(abs(turn)))
    steps = (np.arange(size * finer) + 0.5) / finer
    places = turn * (steps + 1j * steps[:, None]) + shift  # (size * finer, same) x + iy
    crop = F.avg_pool2d(_sampled(pixels, places), finer)
    rounded: NDArray[np.uint8] = crop[0].round().to(torch.uint8).permute(1, 2, 0).numpy()
    return rounded


def template(size: int, margin: float) -> NDArray[np.complex128]:
    """Return the five places in a crop of `size` pixels, drawn together to leave the margin."""
    places = np.array([complex(x, y) for x, y in TEMPLATE]) / TEMPLATE_SIDE
    middle = complex(0.5, 0.5)
    return np.asarray(size * (middle + (places - middle) / (1 + 2 * margin)), dtype=np.complex128)


def similarity(
    source: NDArray[np.complex128], target: NDArray[np.complex128]
) -> tuple[complex, complex]:
    """Return ``(a, b)`` of the least-squares similarity ``target = a * source + b``.

    As complex numbers a rotation with scaling is a product, and a reflection cannot be written.
    """
    start, end = source - source.mean(), target - target.mean()
    turn = complex(np.vdot(start, end) / np.vdot(start, start).real)
    return turn, complex(target.mean() - turn * source.mean())


def _sampled(pixels: NDArray[np.uint8], places: NDArray[np.complex128]) -> Tensor:
    """Return ``(1, 3, rows, columns)`` float32 at the `places`, bilinear, black outside."""
    left, top = (max(0, math.floor(v.min()) - 1) for v in (places.real, places.imag))
    right, bottom = (math.ceil(v.max()) + 1 for v in (places.real, places.imag))
    patch = np.ascontiguousarray(pixels[top:bottom, left:right])
    image = torch.from_numpy(patch).permute(2, 0, 1).unsqueeze(0).float()
    x, y = (places.real - left) / patch.shape[1], (places.imag - top) / patch.shape[0]
    grid = torch.from_numpy(np.stack([x, y], axis=-1) * 2 - 1).float().unsqueeze(0)
    return F.grid_sample(image, grid, mode="bilinear", align_corners=False)
