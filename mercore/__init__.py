"""A feature-extractor registry for multimodal emotion recognition.

The names a plugin author needs, and those that work in Python begins with; everything else is
reached through the modules. They are imported when they are first used, so that `mer --help` needs
neither numpy nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercore.components import (
        Component,
        Decision,
        Encode,
        Encoder,
        Ensemble,
        Features,
        Fusion,
        Inputs,
        Labelled,
        Noted,
        Part,
        Predict,
        Preprocessor,
        Range,
        Space,
        Transform,
        Votes,
        Weights,
    )
    from mercore.errors import CheckpointError, InputError, MercoreError
    from mercore.hookspecs import hookimpl
    from mercore.inputs import audio_of, frames_of, text_of
    from mercore.media import Audio, Frames, Media, Text, Video, Waveform, Words
    from mercore.network import NetworkFusion
    from mercore.opening import open
    from mercore.predict import Prediction, Predictor
    from mercore.project import Project

__version__ = "0.1.0"

__all__ = [
    "Audio",
    "CheckpointError",
    "Component",
    "Decision",
    "Encode",
    "Encoder",
    "Ensemble",
    "Features",
    "Frames",
    "Fusion",
    "InputError",
    "Inputs",
    "Labelled",
    "Media",
    "MercoreError",
    "NetworkFusion",
    "Noted",
    "Part",
    "Predict",
    "Prediction",
    "Predictor",
    "Preprocessor",
    "Project",
    "Range",
    "Space",
    "Text",
    "Transform",
    "Video",
    "Votes",
    "Waveform",
    "Weights",
    "Words",
    "audio_of",
    "frames_of",
    "hookimpl",
    "open",
    "text_of",
]

_MODULES = (
    "mercore.components",
    "mercore.errors",
    "mercore.hookspecs",
    "mercore.inputs",
    "mercore.media",
    "mercore.network",
    "mercore.opening",
    "mercore.predict",
    "mercore.project",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'mercore' has no attribute {name!r}")
