"""A module run by ONNX Runtime: exported once into a cache, and compared with torch there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mercore.components import Component, Record
from mercore.errors import CheckpointError, RunError
from mercore.fingerprints import describe
from mercore.media import FloatArray
from mercore.nn._devices import named_device
from mercore.packages import needed

TOLERANCE: Final = 1e-3
"""The largest difference from torch, as a share of the largest value."""
_OPSET = 17
_REVISION = 2  # raise it when another file is exported from the same module
_MODEL, _CHECK = "model.onnx", "check.json"
_BACKEND = "`backend: onnx`"
_INSTALL = "run `pip install onnx onnxruntime` (for a GPU onnxruntime-gpu)"

Example = Sequence[torch.Tensor]
Axes = Mapping[str, Mapping[int, str]]


class OnnxModel:
    """Runs a module with one float32 output through ONNX Runtime on `device`.

    `build` makes the module, on the CPU in float32; it is called when the cache does not hold its
    export yet. The cache is ``$MERCORE_CACHE``, or ``~/.cache/mercore``; its key is made of the
    options and the identity of `component` and the version of torch. `examples` are inputs of
    different sizes: the first is traced, all are run by both, and an export further than 1e-3 of
    the largest value from torch is refused with a RunError. `inputs` names the inputs, each with
    names for the dimensions that may change. `int8` then quantises the weights of the matrix
    products; what that costs on the examples is in `error`, and never refused.

    Raises RunError where onnx or onnxruntime is missing, and where it does not run on `device`.
    """

    error: float
    """The largest difference from torch on the examples, as a share of the largest value."""
    record: Record
    """What to note about each sample: ``int8_error`` where it is quantised, else nothing."""

    def __init__(
        self,
        component: Component,
        build: Callable[[], nn.Module],
        examples: Sequence[Example],
        inputs: Axes,
        *,
        device: str,
        int8: bool = False,
    ) -> None:
        self._names = list(inputs)
        folder = _cache() / "onnx" / _key(component, int8)
        if not folder.exists():
            _publish(folder, build(), examples, inputs, int8)
        self.error = float(json.loads((folder / _CHECK).read_text())["error"])
        self.record = {"int8_error": self.error} if int8 else {}
        self._session = onnx_session(folder / _MODEL, device)

    def __call__(self, *arrays: NDArray[Any]) -> FloatArray:
        """Return the output for inputs in the order of their names."""
        output: FloatArray = self._session.run(None, dict(zip(self._names, arrays, strict=True)))[0]
        return output


def _cache() -> Path:
    given = os.environ.get("MERCORE_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercore"
    return Path(given) if given else usual


def _key(component: Component, int8: bool) -> str:
    what = [describe(component), int8, torch.__version__, _OPSET, _REVISION]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _publish(
    folder: Path, module: nn.Module, examples: Sequence[Example], inputs: Axes, int8: bool
) -> None:
    """Export into `folder`, which comes to be complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        expected = [_output(module, example) for example in examples]
        _export(module, examples[0], inputs, work / _MODEL)
        error = _error(work / _MODEL, expected, examples, list(inputs))
        if not error <= TOLERANCE:
            raise RunError(
                f"the ONNX export differs from torch by {error:.2g} of the largest value, more "
                f"than {TOLERANCE:g}; use `backend: torch`"
            )
        if int8:
            _quantise(work / _MODEL)
            error = _error(work / _MODEL, expected, examples, list(inputs))
        (work / _CHECK).write_text(json.dumps({"error": error}))
        with suppress(OSError):  # another process was faster
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@torch.inference_mode()
def _output(module: nn.Module, example: Example) -> FloatArray:
    output: FloatArray = module.eval()(*example).float().numpy()
    return output


def _export(module: nn.Module, example: Example, inputs: Axes, file: Path) -> None:
    needed("onnx", _BACKEND, _INSTALL)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter by tracing is deprecated; the other takes ten times as long.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(example),
            str(file),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes={name: dict(axes) for name, axes in inputs.items()},
            opset_version=_OPSET,
            dynamo=False,
        )


def _error(
    file: Path, expected: Sequence[FloatArray], examples: Sequence[Example], names: Sequence[str]
) -> float:
    """Return the largest difference of the file's outputs from those expected, relative."""
    session = onnx_session(file, "cpu")
    worst = 0.0
    for want, example in zip(expected, examples, strict=True):
        given = {name: tensor.numpy() for name, tensor in zip(names, example, strict=True)}
        gap = np.abs(session.run(None, given)[0] - want).max() / np.abs(want).max()
        worst = max(worst, float(gap))
    return worst


def _quantise(file: Path) -> None:
    """Replace the weights of the matrix products by 8-bit numbers."""
    needed("onnxruntime", _BACKEND, _INSTALL)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = file.with_name("ready.onnx")
    quant_pre_process(file, ready, skip_symbolic_shape=True)
    # 7 of the 8 bits: CPUs without VNNI sum two products in 16 bits, which 8 would overflow. A
    # scale for each column makes up for the bit.
    quantize_dynamic(
        ready,
        file,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
    )
    ready.unlink()


def onnx_session(file: Path, device: str) -> Any:
    """Return the ONNX Runtime session of a file, on `device`, with torch's number of threads.

    On `device` in truth: ONNX Runtime falls back to the CPU silently. Raises RunError where it is
    not installed or does not run there, CheckpointError for a file it cannot read.
    """
    runtime = needed("onnxruntime", _BACKEND, _INSTALL)
    place = named_device(device)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    provider = "CUDAExecutionProvider" if place.type == "cuda" else "CPUExecutionProvider"
    settings = {"device_id": place.index or 0} if place.type == "cuda" else {}
    available = runtime.get_available_providers()
    session = None
    if provider in available:
        try:
            session = runtime.InferenceSession(file, options, providers=[(provider, settings)])
        except Exception as error:  # its errors have no base of their own
            raise CheckpointError(
                f"{file}: cannot be read: {error}; fetch it again, or delete its folder if that "
                "is in the cache"
            ) from error
    if session is None or session.get_providers()[0] != provider:
        raise RunError(
            f"onnxruntime does not run on {device!r}: it has {', '.join(available)}; for a GPU "
            "install onnxruntime-gpu in place of onnxruntime, with the CUDA libraries it asks for"
        )
    return session
