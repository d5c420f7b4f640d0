"""Any encoder that transformers has, for speech, text, pictures and video; sentence embeddings."""

from __future__ import annotations

from mercore import hookimpl
from mercore.components import Encoder
from mercore_transformers.audio import TransformersAudio
from mercore_transformers.image import TransformersImage
from mercore_transformers.sentences import SentenceTransformers
from mercore_transformers.text import TransformersText
from mercore_transformers.video import TransformersVideo

__version__ = "0.1.0"

__all__ = [
    "SentenceTransformers",
    "TransformersAudio",
    "TransformersImage",
    "TransformersText",
    "TransformersVideo",
]


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [
        SentenceTransformers,
        TransformersAudio,
        TransformersImage,
        TransformersText,
        TransformersVideo,
    ]
