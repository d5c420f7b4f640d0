"""Types and devices: from numpy to the accelerator and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mercore.errors import RunError
from mercore.media import FloatArray


def dtype_of(name: str) -> torch.dtype:
    """Return torch's type of that name; raises RunError for another than the three."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if name == str(dtype).removeprefix("torch."):
            return dtype
    raise RunError(f"dtype {name!r} is not one; expected 'float32', 'bfloat16' or 'float16'")


def moved(array: NDArray[Any], device: str) -> torch.Tensor:
    """Return the array as a tensor on `device`; the copy to a GPU overlaps with other work."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def rows(tensor: torch.Tensor) -> FloatArray:
    """Return the tensor as a float32 array in memory of its own."""
    array: FloatArray = tensor.float().cpu().numpy()
    return array
