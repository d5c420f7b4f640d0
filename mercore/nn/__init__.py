"""For the heavy half of encoders: published weights, hidden states, pictures, ONNX.

Importing it imports torch: do so in ``_model.py``, never in the module that the entry point names.
"""

from mercore.nn._checkpoint import Checkpoint
from mercore.nn._configs import parsed, read_json
from mercore.nn._devices import dtype_of, moved, rows
from mercore.nn._fill import Rule, built, fill
from mercore.nn._hidden import HiddenStates, chosen
from mercore.nn._onnx import OnnxModel, onnx_session
from mercore.nn._pictures import IMAGENET_MEAN, IMAGENET_STD, normalised, resized, stretched

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Checkpoint",
    "HiddenStates",
    "OnnxModel",
    "Rule",
    "built",
    "chosen",
    "dtype_of",
    "fill",
    "moved",
    "normalised",
    "onnx_session",
    "parsed",
    "read_json",
    "resized",
    "rows",
    "stretched",
]
