"""For the heavy half of plugins: published weights, hidden states, pictures, ONNX, training.

Importing it imports torch: do so in ``_model.py``, never in the module that the entry point names.
"""

from mercore.nn._audio import zscore
from mercore.nn._checkpoint import Checkpoint
from mercore.nn._configs import parsed, read_json
from mercore.nn._devices import device_of, dtype_of, moved, rows
from mercore.nn._fill import Rule, built, fill, refilled
from mercore.nn._fitting import fit_network
from mercore.nn._hidden import HiddenStates, chosen
from mercore.nn._network import (
    Drop,
    Network,
    Parameter,
    Tensors,
    linear,
    linear_parameters,
    split_missing,
)
from mercore.nn._onnx import OnnxModel, onnx_session
from mercore.nn._pictures import IMAGENET_MEAN, IMAGENET_STD, normalised, resized, stretched
from mercore.nn._policies import (
    freed,
    frozen_dtype,
    merged,
    multiplied_in,
    rated,
    recomputing,
)
from mercore.nn._prediction import load_network
from mercore.nn._quiet import quiet_transformers

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Checkpoint",
    "Drop",
    "HiddenStates",
    "Network",
    "OnnxModel",
    "Parameter",
    "Rule",
    "Tensors",
    "built",
    "chosen",
    "device_of",
    "dtype_of",
    "fill",
    "fit_network",
    "freed",
    "frozen_dtype",
    "linear",
    "linear_parameters",
    "load_network",
    "merged",
    "moved",
    "multiplied_in",
    "normalised",
    "onnx_session",
    "parsed",
    "quiet_transformers",
    "rated",
    "read_json",
    "recomputing",
    "refilled",
    "resized",
    "rows",
    "split_missing",
    "stretched",
    "zscore",
]
