"""Frames as the checkpoint's own image processor prepares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from mercore.errors import CheckpointError
from mercore.media import Frames
from mercore.nn import moved, quiet_transformers
from mercore_transformers._sources import said

PREPARED = (("preprocessor_config.json", "processor_config.json"),)


class Pictures:
    """Prepares frames, and moves them to the device."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        auto: Any = AutoImageProcessor
        try:
            with quiet_transformers():  # of Pillow or torchvision it says which it falls back to
                self._processor = auto.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, backend="pil"
                )
        except Exception as error:  # the library's and each processor's own
            raise CheckpointError(
                f"{folder}: has no image processor that can be used: {said(error)}"
            ) from error

    def __call__(self, frames: Frames) -> dict[str, Tensor]:
        """Return what the network reads for the frames, by name: ``pixel_values`` and the like."""
        made = self._processor(
            [Image.fromarray(picture) for picture in frames.pixels], return_tensors="np"
        )
        return {name: self._moved(array) for name, array in made.items()}

    def _moved(self, array: Any) -> Tensor:
        tensor = moved(array, self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor
