"""Pictures for vision encoders, prepared as for their published numbers: resized by Pillow."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mercore.nn._devices import moved

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


def resized(
    pixels: NDArray[np.uint8], size: int, *, shorter: int | None = None
) -> NDArray[np.uint8]:
    """Return ``(frames, size, size, 3)`` pictures, resized bicubically with antialiasing.

    The shorter side becomes `shorter` pixels, `size` unless given, and a square of `size` is cut
    from the centre. `pixels` is ``(frames, height, width, 3)``, RGB.
    """
    height, width = pixels.shape[1:3]
    # Rounded down, as torchvision and transformers do; in whole numbers, which keep 56 * 224 / 56.
    high, wide = ((shorter or size) * side // min(height, width) for side in (height, width))
    left, top = round((wide - size) / 2), round((high - size) / 2)  # as torchvision and timm
    out = np.empty((len(pixels), size, size, 3), np.uint8)
    for index, picture in enumerate(pixels):
        image = Image.fromarray(picture)
        if (wide, high) != (width, height):
            image = image.resize((wide, high), Image.Resampling.BICUBIC)
        out[index] = np.asarray(image)[top : top + size, left : left + size]
    return out


def stretched(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return ``(frames, size, size, 3)`` pictures: all of each, whatever its proportions were.

    Resized as by `resized`, of which nothing is cut off here.
    """
    out = np.empty((len(pixels), size, size, 3), np.uint8)
    for index, picture in enumerate(pixels):
        image = Image.fromarray(picture)
        out[index] = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return out


def normalised(
    pixels: torch.Tensor,
    dtype: torch.dtype,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> torch.Tensor:
    """Return ``(frames, 3, height, width)`` of `dtype`, shifted by `mean` and scaled by `std`.

    `pixels` is ``(frames, height, width, 3)`` uint8 and stays on its device.
    """
    # Moved, not made there, which would wait for all that the device has still to do.
    shift, scale = (
        moved(np.array(values, np.float32), str(pixels.device)) * 255 for values in (mean, std)
    )
    return ((pixels.float() - shift) / scale).to(dtype).permute(0, 3, 1, 2).contiguous()


def mean_of_samples(values: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Return ``(samples, dim)``: the mean of the rows of each sample, whose number `samples` has.

    `values` is ``(pictures, dim)``; `samples` is ``(pictures,)``, from 0, none left out.
    """
    counts = samples.bincount().unsqueeze(1)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add(0, samples, values)
    return sums / counts
