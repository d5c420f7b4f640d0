"""Types and devices: from numpy to the accelerator and back."""

from __future__ import annotations

import re
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


def named_device(name: str) -> torch.device:
    """Return torch's device of that name, there or not; raises RunError for no such name."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise RunError(f"device {name!r} is not one; expected 'cpu', 'cuda' or 'cuda:N'")
    return torch.device(name)


def device_of(name: str) -> torch.device:
    """Return torch's device of that name: the CPU, or a GPU that is there; else raises RunError."""
    device = named_device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count()
    if not count:
        raise RunError(f"device {name!r}: torch finds no CUDA device; use cpu")
    if (device.index or 0) >= count:
        raise RunError(f"device {name!r}: torch finds {count}; the last is 'cuda:{count - 1}'")
    return device


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
