"""Small encoders, an ASR and a denoiser whose weights ship inside packages or this plugin."""

from mercore import Encoder, Preprocessor, hookimpl
from mercore_starter.faces import FaceExpression, MtcnnFaces
from mercore_starter.prosody import Prosody
from mercore_starter.speech import DeepFilterNet, WhisperASR, WhisperEncoder
from mercore_starter.text import MiniLM

__version__ = "0.1.0"

__all__ = [
    "DeepFilterNet",
    "FaceExpression",
    "MiniLM",
    "MtcnnFaces",
    "Prosody",
    "WhisperASR",
    "WhisperEncoder",
]


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    """Return what derives streams: faces, transcripts, speech without noise."""
    return [MtcnnFaces, WhisperASR, DeepFilterNet]


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return what encodes text, speech, prosody and faces."""
    return [MiniLM, WhisperEncoder, Prosody, FaceExpression]
