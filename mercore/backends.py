"""The options of encoders that ONNX Runtime can run in the place of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from mercore.errors import RegistryError


class OnnxOptions(BaseModel):
    """Adds the options `backend` and `int8` to an encoder; name it before ``Encoder``.

    The heavy half runs `mercore.nn.OnnxModel` where `backend` says so.
    """

    backend: Literal["torch", "onnx"] = Field(
        default="torch",
        description="What computes: torch, or ONNX Runtime, faster on most CPUs. The model is "
        "exported once, into `$MERCORE_CACHE` or `~/.cache/mercore`, and compared with torch.",
    )
    int8: bool = Field(
        default=False,
        description="With `backend: onnx`: quantise the weights of the matrix products to 8 bits. "
        "The record of each sample has `int8_error`: the largest difference from torch, as a share "
        "of the largest value, on two made-up examples. On your own data it may be several times "
        "that: compare some clips with `int8: false` before you rely on it.",
    )

    @model_validator(mode="after")
    def _int8_is_onnx(self) -> OnnxOptions:
        if self.int8 and self.backend != "onnx":
            raise ValueError("int8: true needs backend: onnx")
        return self


def only_float32(name: str, dtype: str) -> None:
    """Raise RegistryError for an encoder `name` with ``backend: onnx`` and another dtype."""
    if dtype != "float32":
        raise RegistryError(
            f"{name}: dtype {dtype!r} does not go with `backend: onnx`, which computes in float32; "
            "leave dtype out, or use `int8: true` or `backend: torch`"
        )
