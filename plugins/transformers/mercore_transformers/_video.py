"""Video encoders of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mercore.components import Inputs, Noted
from mercore.errors import RegistryError
from mercore.inputs import frames_of
from mercore.media import FloatArray, Frames
from mercore.nn import dtype_of, rows
from mercore_transformers._loading import loaded
from mercore_transformers._pictures import PREPARED, Pictures
from mercore_transformers._sources import found
from mercore_transformers._states import reduced
from mercore_transformers.video import TransformersVideo

# Videos in which the patches of a step of time lie together; in others no row can be made of them.
STEPWISE = frozenset({"videomae", "vivit"})


class VideoEncoder:
    """The function ``TransformersVideo.load`` returns."""

    def __init__(self, options: TransformersVideo, device: str, dtype: str) -> None:
        source = found(options.checkpoint, "video", wanted=PREPARED)
        self._options, self._config = options, source.config
        self._check(source.folder.name)
        self._prepared = Pictures(source.folder, device, dtype_of(dtype))
        self._model = loaded(source, device, dtype)

    def _check(self, checkpoint: str) -> None:
        who, frames = self._options.name, self._config.num_frames
        if frames != self._options.frames:
            raise RegistryError(
                f"{who}: option 'frames' is {self._options.frames}, but {checkpoint!r} reads "
                f"{frames} of a clip; write `frames: {frames}`"
            )
        if self._options.pool == "steps" and self._config.model_type not in STEPWISE:
            raise RegistryError(
                f"{who}: option 'pool' is 'steps', but {self._config.model_type!r} has no rows "
                f"for steps of time, which {', '.join(sorted(STEPWISE))} have; use mean or cls"
            )

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray | Noted[FloatArray]]:
        clips = [frames_of(sample) for sample in batch]
        # One by one: a clip fills a device, and a batch of them gives nothing.
        states = [self._run(clip) for clip in clips]
        return [
            self._noted(rows(state), len(clip.pixels))
            for state, clip in zip(states, clips, strict=True)
        ]

    def _run(self, clip: Frames) -> Tensor:
        """Return the rows of a clip, ``(rows, dim)`` float32, on the device."""
        given = self._prepared(_filled(clip, self._options.frames))
        output = self._model(**given, output_hidden_states=True)
        tokens = reduced(output, self._options)[0]  # (tokens, dim)
        before = _class_tokens(self._config, given["pixel_values"], len(tokens))
        if self._options.pool == "cls":
            if not before:
                raise RegistryError(
                    f"{self._options.name}: option 'pool' is 'cls', but "
                    f"{self._config.model_type!r} has no class token; use mean"
                )
            return tokens[:1]
        patches = tokens[before:]
        if self._options.pool == "mean":
            return patches.mean(0, keepdim=True)
        steps = self._options.frames // _tube(self._config)[0]
        return patches.reshape(steps, -1, patches.shape[-1]).mean(1)

    def _noted(self, matrix: FloatArray, frames: int) -> FloatArray | Noted[FloatArray]:
        if frames == self._options.frames:
            return matrix
        return Noted(matrix, {"frames": frames, "read": self._options.frames})


def _filled(clip: Frames, count: int) -> Frames:
    """Return `count` frames spread evenly; of fewer ones some are there more than once."""
    chosen = np.linspace(0, len(clip.pixels) - 1, count).round().astype(np.int64)
    return Frames(clip.pixels[chosen], clip.times[chosen])


def _tube(config: Any) -> tuple[int, int]:
    """Return how many frames, and pixels to a side, one patch covers."""
    tube = getattr(config, "tubelet_size", 1)
    return (tube, config.patch_size) if isinstance(tube, int) else (tube[0], tube[1])


def _class_tokens(config: Any, pixels: Tensor, tokens: int) -> int:
    """Return how many tokens stand before those of the patches."""
    frames, side = _tube(config)
    _, count, _, height, width = pixels.shape
    return tokens - (count // frames) * (height // side) * (width // side)
