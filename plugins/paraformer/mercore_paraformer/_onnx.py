"""Paraformer by ONNX Runtime, as FunASR exports it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from mercore.errors import CheckpointError
from mercore.media import FloatArray
from mercore.nn import onnx_session

INPUTS = ("speech", "speech_lengths")
OUTPUTS = ("logits", "token_num")
NO_TOKENS = "Invalid input shape: {0}"
"""What ONNX Runtime says where the predictor finds no token in the whole batch."""


class OnnxNetwork:
    """Scores features in batches, like ``Network``."""

    alike: Final = 1.0  # the predictor of the exports takes padding for speech

    def __init__(self, file: Path, device: str) -> None:
        self._file = file
        self._session = onnx_session(file, device)
        found = tuple(given.name for given in self._session.get_inputs())
        outputs = [given.name for given in self._session.get_outputs()]
        if set(found) != set(INPUTS) or not set(OUTPUTS) <= set(outputs):
            raise CheckpointError(
                f"{file}: has the inputs {', '.join(found)} and the outputs {', '.join(outputs)}, "
                f"expected {', '.join(INPUTS)} and {', '.join(OUTPUTS)}, those of Paraformer; run "
                "others with `backend: torch`"
            )

    def __call__(self, features: Sequence[torch.Tensor]) -> list[FloatArray]:
        """Return log-probabilities ``(positions, vocabulary)`` for each ``(frames, size)``."""
        lengths = np.array([len(some) for some in features], np.int32)
        speech = pad_sequence(list(features), batch_first=True).numpy()
        given = dict(zip(INPUTS, (speech, lengths), strict=True))
        try:
            logits, counts = self._session.run(list(OUTPUTS), given)
        except Exception as error:  # its errors have no base of their own
            if NO_TOKENS not in str(error):
                raise
            return [np.zeros((0, 1), np.float32) for _ in features]
        # Some exports end before the softmax; a second one changes nothing.
        scores = torch.from_numpy(logits).log_softmax(-1).numpy()
        return [own[: int(count)] for own, count in zip(scores, counts, strict=True)]
