"""A feature-extractor registry for multimodal emotion recognition.

The names a plugin author needs; everything else is reached through the modules.
"""

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
    Predict,
    Preprocessor,
    Transform,
    Votes,
    Weights,
)
from mercore.errors import CheckpointError, InputError, MercoreError
from mercore.hookspecs import hookimpl
from mercore.media import Audio, Frames, Media, Text, Video, Waveform, Words

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
    "Noted",
    "Predict",
    "Preprocessor",
    "Text",
    "Transform",
    "Video",
    "Votes",
    "Waveform",
    "Weights",
    "Words",
    "hookimpl",
]
